//! How far is the product from the best of its candidates, in time of one thread?
//!
//! Candidates: ndarray's own (matrixmultiply), OpenBLAS as it detects the processor (`OPENBLAS_CORETYPE` corrects it) and
//! faer's kernels, which the product itself takes. Shapes are those of training:
//! P Wᵀ, R W and Rᵀ P for blocks of nodes, wide and narrow layers, output layers of 10 classes, layer 1 in N dimensions.
//! Arguments choose rows: `cargo bench --bench product -- f32 140`.
#![allow(missing_docs, unsafe_code)]

use std::time::Duration;

use cpu_time::ThreadTime;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2};
use pdadmm_g::linalg::factor::{lapack_core, use_one_lapack_thread};
use pdadmm_g::linalg::{Real, product::product};

/// C m × n ← A B with A m × k or the transpose of k × m, B k × n or the transpose of n × k.
struct Shape {
    name: &'static str,
    m: usize,
    k: usize,
    n: usize,
    a_transposed: bool,
    b_transposed: bool,
}

const fn shape(name: &'static str, m: usize, k: usize, n: usize) -> Shape {
    let first = name.as_bytes()[0];
    // "P W'", "R W" and "R' P".
    let b_transposed = first == b'P' || first == b'X';
    let a_transposed = name.as_bytes()[1] == b'\'';
    Shape { name, m, k, n, a_transposed, b_transposed }
}

const SHAPES: [Shape; 23] = [
    shape("P W'", 1250, 1000, 1000),
    shape("R W", 1250, 1000, 1000),
    shape("R' P", 1000, 1250, 1000),
    shape("n x n", 1000, 1000, 1000),
    shape("P W'", 2000, 512, 1000),
    shape("X W'", 500, 1433, 1000),
    shape("P W'", 140, 500, 500),
    shape("R W", 140, 500, 500),
    shape("R' P", 500, 140, 500),
    shape("P W'", 1250, 100, 100),
    shape("R W", 1250, 100, 100),
    shape("R' P", 100, 1250, 100),
    shape("P W'", 140, 100, 100),
    shape("R W", 140, 100, 100),
    shape("R' P", 100, 140, 100),
    shape("K D", 140, 140, 100),
    shape("K D", 140, 140, 500),
    shape("P W'", 1250, 1000, 10),
    shape("R W", 1250, 10, 1000),
    shape("R' P", 10, 1250, 1000),
    shape("P W'", 140, 100, 10),
    shape("R W", 140, 10, 100),
    shape("R' P", 10, 140, 100),
];

/// The type's product in OpenBLAS.
trait Blas: Real {
    fn gemm(shape: &Shape, a: &Array2<Self>, b: &Array2<Self>, c: &mut Array2<Self>);
}

const ROWS_FIRST: i32 = 101;
const PLAIN: i32 = 111;
const TRANSPOSED: i32 = 112;

macro_rules! blas {
    ($t:ty, $gemm:ident) => {
        unsafe extern "C" {
            fn $gemm(
                order: i32,
                a_transposed: i32,
                b_transposed: i32,
                m: i32,
                n: i32,
                k: i32,
                alpha: $t,
                a: *const $t,
                lda: i32,
                b: *const $t,
                ldb: i32,
                beta: $t,
                c: *mut $t,
                ldc: i32,
            );
        }
        impl Blas for $t {
            fn gemm(shape: &Shape, a: &Array2<$t>, b: &Array2<$t>, c: &mut Array2<$t>) {
                let order = |transposed| if transposed { TRANSPOSED } else { PLAIN };
                // SAFETY: a, b and c are matrices in rows of the sizes that are passed.
                unsafe {
                    $gemm(
                        ROWS_FIRST,
                        order(shape.a_transposed),
                        order(shape.b_transposed),
                        shape.m as i32,
                        shape.n as i32,
                        shape.k as i32,
                        1.0,
                        a.as_ptr(),
                        a.ncols() as i32,
                        b.as_ptr(),
                        b.ncols() as i32,
                        0.0,
                        c.as_mut_ptr(),
                        c.ncols() as i32,
                    );
                }
            }
        }
    };
}
blas!(f32, cblas_sgemm);
blas!(f64, cblas_dgemm);

fn matrix<T: Real>(rows: usize, cols: usize) -> Array2<T> {
    Array2::from_shape_fn((rows, cols), |(i, j)| T::of(((i * 31 + j * 17) % 101) as f64 / 101.0 - 0.5))
}

/// Shortest of several times of `run`, each long enough for the clock, in rounds that take turns with the others'.
fn shortest(runs: &mut [&mut dyn FnMut()]) -> Vec<f64> {
    let time = |run: &mut dyn FnMut(), times: usize| {
        let start = ThreadTime::now();
        (0..times).for_each(|_| run());
        start.elapsed()
    };
    let mut repeats = Vec::new();
    for run in runs.iter_mut() {
        run();
        let once = time(run, 1).max(Duration::from_nanos(100));
        repeats.push((Duration::from_millis(2).as_nanos() / once.as_nanos()) as usize + 1);
    }
    let mut best = vec![f64::INFINITY; runs.len()];
    for _ in 0..12 {
        for ((run, &repeats), best) in runs.iter_mut().zip(&repeats).zip(&mut best) {
            *best = best.min(time(run, repeats).as_secs_f64() / repeats as f64);
        }
    }
    best
}

fn compare<T: Blas>(shape: &Shape) {
    let Shape { m, k, n, .. } = *shape;
    let a = if shape.a_transposed { matrix::<T>(k, m) } else { matrix(m, k) };
    let b = if shape.b_transposed { matrix::<T>(n, k) } else { matrix(k, n) };
    fn turned<T>(matrix: &Array2<T>, transposed: bool) -> ArrayView2<'_, T> {
        if transposed { matrix.t() } else { matrix.view() }
    }
    let (av, bv) = (turned(&a, shape.a_transposed), turned(&b, shape.b_transposed));
    let [mut ours, mut own, mut open] = [(); 3].map(|()| Array2::<T>::zeros((m, n)));
    let times = shortest(&mut [
        &mut || product(T::one(), &av, &bv, T::zero(), &mut ours),
        &mut || general_mat_mul(T::one(), &av, &bv, T::zero(), &mut own),
        &mut || T::gemm(shape, &a, &b, &mut open),
    ]);
    for other in [&own, &open] {
        let far = ours.iter().zip(other).any(|(x, y)| (x.f64() - y.f64()).abs() > 1e-4 * k as f64);
        assert!(!far, "the candidates disagree");
    }
    let flops = 2.0 * (m * k * n) as f64 / 1e9;
    let best = times.iter().copied().fold(f64::INFINITY, f64::min);
    println!(
        "{:<4} {:<5} {:>5} x {:>4} x {:>4} {:>9.1} {:>10.1} {:>9.1} {:>9.1} {:>9.2}",
        T::NAME,
        shape.name,
        m,
        k,
        n,
        times[0] * 1e6,
        flops / times[0],
        flops / times[1],
        flops / times[2],
        times[0] / best
    );
}

fn main() {
    use_one_lapack_thread();
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    println!("OpenBLAS takes this processor for {}", lapack_core());
    println!("                               us/product     GFLOP/s of the               time of ours");
    println!("type what      m x    k x    n      ours       ours   ndarray  OpenBLAS  over best");
    for shape in &SHAPES {
        for name in ["f32", "f64"] {
            let words = [name, shape.name, &shape.m.to_string(), &shape.k.to_string(), &shape.n.to_string()];
            if !wanted.iter().all(|wanted| words.contains(&wanted.as_str())) {
                continue;
            }
            match name {
                "f32" => compare::<f32>(shape),
                _ => compare::<f64>(shape),
            }
        }
    }
}
