//! stub
#[derive(Debug, Clone, PartialEq)]
pub struct LevelSet {
    lo: f64,
    step: f64,
    count: u32,
}
impl LevelSet {
    pub fn from_values(v: &[f64]) -> Result<Self, ()> {
        Ok(Self { lo: v[0], step: (v[v.len() - 1] - v[0]) / (v.len() - 1) as f64, count: v.len() as u32 })
    }
    pub fn with_bits(lo: f64, step: f64, bits: u32) -> Self {
        Self { lo, step, count: 1 << bits }
    }
    pub fn round_slice<T: crate::linalg::Real>(&self, x: &mut [T]) {
        for x in x {
            let i = ((x.f64() - self.lo) / self.step - 0.5).ceil().clamp(0.0, (self.count - 1) as f64);
            *x = T::of(self.lo + i * self.step);
        }
    }
}
