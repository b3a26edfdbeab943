#!/usr/bin/env python3
"""Splits to compare settings by, of the training and validation nodes of each split (docs/accuracy.md).

    python3 jobs/held-out-draws.py datasets/cora.h5 draws.h5 --draws 60
    pdadmm-g train --data draws.h5 --split draw_0 --seed 0 --output run     (and so on)

The training and validation nodes of each split of the data set, in turn, are drawn anew: as many training nodes of each
class as the split has; of the others four fifths validate, and a fifth, held out, is the `test` set of the draw. So what
summary.json calls test accuracy says which settings are better, and no node that the split tests has taken part. (Where
splits overlap, as random ones do, it may be tested in another.) draws.h5 has the draws beside the splits that were there.
Needs h5py and numpy.
"""

import argparse
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np


def draw(generator, labels, split):
    """Training, validation and held-out nodes, drawn from the first two sets of `split`."""
    train, pool = split["train"][:], np.concatenate([split["train"][:], split["val"][:]])
    new = []
    for label in np.unique(labels[train]):
        of_class = generator.permutation(pool[labels[pool] == label])
        new.extend(of_class[: np.count_nonzero(labels[train] == label)])
    rest = generator.permutation(np.setdiff1d(pool, new))
    held_out = len(rest) // 5
    return {"train": new, "val": rest[held_out:], "test": rest[:held_out]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--draws", type=int, default=30)
    arguments = parser.parse_args()
    if arguments.output.exists():
        sys.exit(f"error: {arguments.output} is there: name another file")
    if not arguments.data.is_file():
        sys.exit(f"error: {arguments.data} is not there: datasets/download.sh makes data sets")
    unfinished = arguments.output.with_name(arguments.output.name + ".unfinished")
    shutil.copyfile(arguments.data, unfinished)
    with h5py.File(unfinished, "r+") as file:
        labels, names = file["labels"][:], sorted(file["splits"])
        if "draw_0" in names:
            unfinished.unlink()
            sys.exit(f"error: {arguments.data} has draws already: name the data set they were made of")
        for i in range(arguments.draws):
            sets = draw(np.random.default_rng(1000 + i), labels, file["splits"][names[i % len(names)]])
            group = file["splits"].create_group(f"draw_{i}")
            for name, nodes in sets.items():
                group[name] = np.sort(np.array(nodes, dtype=np.int64))
    unfinished.rename(arguments.output)


if __name__ == "__main__":
    main()
