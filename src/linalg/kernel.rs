//! The product on x86 processors with fused multiply-add: the assembly that faer multiplies with (private-gemm-x86).

use std::any::TypeId;

use ndarray::{ArrayView2, ArrayViewMut2};
use private_gemm_x86::{Accum, DType, DstKind, IType, InstrSet};

/// The instructions that this processor has for it; `None` where it has none.
pub(super) fn instructions() -> Option<InstrSet> {
    if is_x86_feature_detected!("avx512f") {
        Some(InstrSet::Avx512)
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        Some(InstrSet::Avx256)
    } else {
        None
    }
}

/// C ← α A B, or C ← α A B + C where `add`. Returns whether it was done: it is not for types other than f32 and f64.
///
/// # Panics
/// The shapes do not fit together.
#[allow(unsafe_code)]
pub(super) fn multiply<T: 'static>(
    instructions: InstrSet,
    alpha: T,
    a: &ArrayView2<'_, T>,
    b: &ArrayView2<'_, T>,
    add: bool,
    c: &mut ArrayViewMut2<'_, T>,
) -> bool {
    let of = TypeId::of::<T>();
    let dtype = match () {
        () if of == TypeId::of::<f32>() => DType::F32,
        () if of == TypeId::of::<f64>() => DType::F64,
        () => return false,
    };
    let ((m, k), n) = (a.dim(), b.ncols());
    assert_eq!((b.nrows(), c.dim()), (k, (m, n)), "shapes of a product");
    let ([a_rows, a_cols], [b_rows, b_cols]) = (strides(a.strides()), strides(b.strides()));
    let [c_rows, c_cols] = strides(c.strides());
    // SAFETY: `T` is the type that `dtype` names. The pointers and strides are those of views of m × k, k × n and m × n
    // elements, which the call does not leave; C is borrowed mutably, so it overlaps neither A nor B. The processor has
    // the instructions. The row and column indices and the diagonal are null: C is a plain matrix and A B is not scaled.
    unsafe {
        private_gemm_x86::gemm(
            dtype,
            IType::U64,
            instructions,
            m,
            n,
            k,
            c.as_mut_ptr().cast(),
            c_rows,
            c_cols,
            std::ptr::null(),
            std::ptr::null(),
            DstKind::Full,
            if add { Accum::Add } else { Accum::Replace },
            a.as_ptr().cast(),
            a_rows,
            a_cols,
            false,
            std::ptr::null(),
            0,
            b.as_ptr().cast(),
            b_rows,
            b_cols,
            false,
            (&raw const alpha).cast(),
            1,
        );
    }
    true
}

/// Strides of rows and columns, in elements.
fn strides(strides: &[isize]) -> [isize; 2] {
    [strides[0], strides[1]]
}
