#!/usr/bin/env python3
"""Times the update functions of the published Python code beside pdadmm-g, on the same shapes.

    python3 jobs/compare-published.py CHECKOUT [--program PATH] [--cases small,wide,large] [--repeat K]

CHECKOUT is a checkout of the published code (https://github.com/xianggebenben/pdADMM-G); nothing is fetched. Its functions
need PyTorch; what its file imports beside that for drawing and for graphs is not used by them, and stood in for here where
it is not installed. Both sides run on one thread and the CPU, with random numbers: speed does not depend on the values,
but for the trial loops of the published steps, whose length is printed. An iteration is what Algorithm 1 updates once for
ten layers: p, W, b, z, q, u. Ours is the mean of training after the first iterations, evaluations left out.
"""

import argparse
import csv
import importlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import types

LAYERS = 10
# name: nodes, training nodes, features of a node (augmented: four times as many), classes, neurons
CASES = {
    "small": (2708, 140, 1433, 7, 100),
    "wide": (2708, 140, 1433, 7, 500),
    "large": (11500, 10000, 250, 10, 1000),
}


class Anything(types.ModuleType):
    """Stands in for a module that the published file imports and its update functions do not use."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def published(checkout):
    """The file with the update functions."""
    for folder in ("pdADMM_G_serial", "serial pdADMM-G", "."):
        path = pathlib.Path(checkout) / folder / "common.py"
        if path.is_file():
            break
    else:
        sys.exit(f"{checkout}: expected common.py in it or in pdADMM_G_serial: is this a checkout of the published code?")
    unused = ["torch_sparse", "torch_scatter", "torch_geometric", "torch_geometric.utils"]
    unused += ["torch_geometric.utils.num_nodes", "matplotlib", "matplotlib.pyplot"]
    for name in unused:
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = Anything(name)
    sys.path.insert(0, str(path.parent))
    return importlib.import_module("common")


def time_published(common, torch, case, repeat):
    """Seconds of each update for all layers, the least of `repeat` iterations; and the trials of p and W."""
    _, nodes, features, classes, neurons = case
    widths = [4 * features] + [neurons] * (LAYERS - 1) + [classes]
    rho, mu = 1e-3, 1.0
    torch.manual_seed(0)
    W = [torch.randn(m, n) * (2.0 / n) ** 0.5 for n, m in zip(widths, widths[1:])]
    b = [torch.zeros(m, 1) for m in widths[1:]]
    p = [torch.rand(widths[0], nodes) / widths[0] ** 0.5]
    z, q, u = [], [], []
    for l in range(LAYERS):
        z.append(W[l] @ p[l] + b[l])
        q.append(torch.relu(z[l]))
        u.append(torch.zeros_like(q[l]))
        p.append(q[l].clone())
    labels = torch.nn.functional.one_hot(torch.randint(classes, (nodes,)), classes).T.float()
    trials = {"p": 0, "W": 0}
    for name, model in (("p", "Q"), ("W", "P")):
        plain = getattr(common, model)

        def counted(*arguments, plain=plain, name=name):
            trials[name] += 1
            return plain(*arguments)

        setattr(common, model, counted)
    best = {}
    for _ in range(repeat):
        trials.update(p=0, W=0)
        spent = dict.fromkeys("pWbzqu", 0.0)

        def timed(variable, work):
            start = time.perf_counter()
            result = work()
            spent[variable] += time.perf_counter() - start
            return result.detach()

        for l in range(1, LAYERS):
            p[l] = timed("p", lambda: common.update_p(p[l], q[l - 1], W[l], b[l], z[l], u[l - 1], rho))
        for l in range(LAYERS):
            W[l] = timed("W", lambda: common.update_W(p[l], b[l], z[l], W[l], rho, mu))
        for l in range(LAYERS):
            b[l] = timed("b", lambda: common.update_b(p[l], W[l], z[l], b[l], rho))
        for l in range(LAYERS - 1):
            z[l] = timed("z", lambda: common.update_z(z[l], p[l], W[l], b[l], q[l], rho))
        z[-1] = timed("z", lambda: common.update_zl(p[LAYERS - 1], W[-1], b[-1], labels, z[-1], rho))
        for l in range(LAYERS - 1):
            q[l] = timed("q", lambda: common.update_q(p[l + 1], z[l], u[l], rho))
            u[l] = timed("u", lambda: u[l] + rho * (p[l + 1] - q[l]))
        if not best or sum(spent.values()) < sum(best.values()):
            best = spent
    return best, trials


def time_ours(program, case, iterations, folder):
    """Seconds an iteration of pdadmm-g on one rank and thread."""
    total, nodes, features, classes, neurons = map(str, case)
    data, output = folder / "graph.h5", folder / "run"
    subprocess.run(
        [program, "dataset", "generate", "--nodes", total, "--features", features, "--classes", classes]
        + ["--train-nodes", nodes, "--output", str(data)],
        check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        [program, "train", "--data", str(data), "--output", str(output), "--layers", str(LAYERS), "--stages", str(LAYERS)]
        + ["--neurons", neurons, "--subproblem", "gradient", "--iterations", str(iterations)]
        + ["--evaluate-every", str(iterations)],
        check=True, stdout=subprocess.DEVNULL)
    with open(output / "history.csv", newline="") as rows:
        seconds = [float(row["seconds"]) for row in csv.DictReader(rows)]
    # The first iterations warm up; the row of the last is written after an evaluation.
    skip = 2
    return (seconds[-2] - seconds[skip - 1]) / (len(seconds) - 1 - skip)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout")
    parser.add_argument("--program", default="pdadmm-g", help="our program [default: pdadmm-g on the PATH]")
    parser.add_argument("--cases", default="small,wide", help=f"which of {', '.join(CASES)} [default: small,wide]")
    parser.add_argument("--repeat", type=int, default=5, help="iterations of the published code, of which the fastest counts")
    arguments = parser.parse_args()
    cases = arguments.cases.split(",")
    for name in cases:
        if name not in CASES:
            sys.exit(f"--cases {name}: expected some of {', '.join(CASES)}")
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"
    try:
        import torch
    except ImportError:
        sys.exit("the published code needs PyTorch: install it for this Python")
    torch.set_num_threads(1)
    common = published(arguments.checkout)
    print("milliseconds an iteration of 10 layers, one thread; trials: tries of a step length, all layers together")
    print(f"{'case':>6} {'neurons':>7} {'nodes':>6} | {'published':>9} "
          f"{'p':>8} {'W':>8} {'b':>7} {'z':>7} {'q':>6} {'u':>6} {'trials p, W':>12} | {'ours':>8} | ratio")
    for name in cases:
        case = CASES[name]
        spent, trials = time_published(common, torch, case, arguments.repeat)
        with tempfile.TemporaryDirectory() as folder:
            ours = time_ours(arguments.program, case, 8 if name == "large" else 200, pathlib.Path(folder))
        theirs = sum(spent.values())
        ms = {variable: 1e3 * seconds for variable, seconds in spent.items()}
        tries = f"{trials['p']}, {trials['W']}"
        print(f"{name:>6} {case[4]:>7} {case[1]:>6} | {1e3 * theirs:>9.1f} {ms['p']:>8.1f} {ms['W']:>8.1f} {ms['b']:>7.1f} "
              f"{ms['z']:>7.1f} {ms['q']:>6.1f} {ms['u']:>6.1f} {tries:>12} | {1e3 * ours:>8.2f} | {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
