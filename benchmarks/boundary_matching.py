"""How far the boundary benchmark's quick matching and thinning are from those of BSDS500's own program.

    python -m benchmarks.boundary_matching ../shared/data/bench/bsds500_test --pictures 5

The program thins the map at each threshold by itself and takes, of all matchings with most pairs, one of least total
distance. This does the same, threshold by threshold, with scipy's sparse assignment (pip install scipy), and prints the
counts of both beside each other. The maps are OpenCV's Sobel: dense, and with edges of every strength, so that there
is much to thin and to match.
"""

import argparse
import time

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from samlet.evaluate import bsds, edge_finders
from samlet.evaluate.boundaries import TOLERANCE, thinned
from samlet.evaluate.datasets import Dataset

EVERY = 9  # of the 99 thresholds


def nearest(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Match most pairs with least total distance; to leave a pixel alone costs a hundred times the reach."""
    reach = int(radius)
    height, width = ours.shape
    number = np.full((height + 2 * reach, width + 2 * reach), -1, np.int64)
    number[reach : reach + height, reach : reach + width][theirs] = np.arange(np.count_nonzero(theirs))
    y, x = np.nonzero(ours)
    rows, columns, costs = [np.arange(len(y))], [np.count_nonzero(theirs) + np.arange(len(y))], []
    costs.append(np.full(len(y), 100 * radius))
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if np.hypot(dy, dx) <= radius:
                near = number[y + reach + dy, x + reach + dx]
                some = np.flatnonzero(near >= 0)
                rows.append(some)
                columns.append(near[some])
                costs.append(np.full(len(some), np.hypot(dy, dx) + 1e-3))
    count = int(np.count_nonzero(theirs))
    graph = coo_matrix(
        (np.concatenate(costs), (np.concatenate(rows), np.concatenate(columns))),
        shape=(len(y), count + len(y)),
    ).tocsr()
    row, column = min_weight_full_bipartite_matching(graph)
    found = np.zeros(ours.shape, np.bool_)
    hits = row[column < count]
    found[y[hits], x[hits]] = True
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", help="folder with images/ and masks/NAME_h1.png ...")
    parser.add_argument("--pictures", type=int, default=5)
    options = parser.parse_args()
    dataset = Dataset.open(options.set)
    dataset = dataset.select(every=max(1, len(dataset) // options.pictures), limit=options.pictures)
    thresholds = range(EVERY, bsds.THRESHOLDS, EVERY)
    totals = {name: np.zeros((len(thresholds), 4)) for name in ("quick", "own thinning", "program")}
    seconds = dict.fromkeys(totals, 0.0)
    for item in dataset.items:
        image, drawn = bsds.read(dataset, item, [])
        if image is None:
            continue
        edges = edge_finders.PLAIN["sobel"][1](image)
        radius = TOLERANCE * float(np.hypot(*edges.shape))
        start = time.process_time()
        quick = bsds.compare(edges, drawn)
        seconds["quick"] += time.process_time() - start
        for place, level in enumerate(thresholds):
            totals["quick"][place] += [
                counts[level - 1] for counts in (quick.found, quick.drawn, quick.right, quick.claimed)
            ]
            start = time.process_time()
            thin = thinned(edges >= level / 100 - 1e-8)
            once = bsds.count(thin.astype(np.int64), drawn, 1)
            seconds["own thinning"] += time.process_time() - start
            totals["own thinning"][place] += [
                counts[0] for counts in (once.found, once.drawn, once.right, once.claimed)
            ]
            start = time.process_time()
            anybody, found = np.zeros(thin.shape, bool), 0
            for one in drawn:
                hits = nearest(thin, one, radius)
                anybody |= hits
                found += np.count_nonzero(hits)
            seconds["program"] += time.process_time() - start
            totals["program"][place] += [found, once.drawn[0], np.count_nonzero(anybody), thin.sum()]
    print(f"{len(dataset)} pictures, {len(thresholds)} thresholds; seconds of processor time {seconds}")
    print("threshold  " + "  ".join(f"{name:>30}" for name in totals))
    for place, level in enumerate(thresholds):
        cells = []
        for counts in totals.values():
            recall, precision = (
                counts[place, 0] / counts[place, 1],
                counts[place, 2] / max(counts[place, 3], 1),
            )
            f = 2 * precision * recall / max(precision + recall, 1e-9)
            cells.append(f"P {precision:.4f} R {recall:.4f} F {f:.4f}")
        print(f"{level / 100:9.2f}  " + "  ".join(f"{cell:>30}" for cell in cells))


if __name__ == "__main__":
    main()
