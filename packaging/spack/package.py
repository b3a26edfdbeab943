# UNTESTED recipe for Spack: in a repository of one's own as packages/pdadmm-g/package.py; replace the URL.
from spack.package import *


class PdadmmG(CargoPackage):
    """Train deep graph-augmented MLPs without backpropagation: pdADMM-G and pdADMM-G-Q over MPI."""

    homepage = "https://arxiv.org/abs/2105.09837"
    git = "https://example.org/pdadmm-g.git"

    license("MIT OR Apache-2.0")

    version("main", branch="main")

    depends_on("rust@1.89:", type="build")
    depends_on("llvm+clang", type="build")  # bindgen reads MPI's headers with libclang
    depends_on("pkgconfig", type="build")
    depends_on("mpi")
    depends_on("hdf5@1.10:~mpi")
    depends_on("openblas")

    def setup_build_environment(self, env):
        env.set("MPICC", self.spec["mpi"].mpicc)
        env.set("HDF5_DIR", self.spec["hdf5"].prefix)
        env.set("LIBCLANG_PATH", self.spec["llvm"].prefix.lib)
