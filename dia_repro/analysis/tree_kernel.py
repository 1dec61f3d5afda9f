"""A tree of a random forest, the same estimator as scikit-learn's, by products of outputs.

The value of a split is |S_L|²/W_L + |S_R|²/W_R, with S the sum of the outputs on a side and W its
weight. Given the products of all pairs of samples, |S_L|² grows by 2·Σ w_a·w_b·y_a·y_b +
w_a²·|y_a|² as sample a joins the left, and |S_R|² = |S|² - 2·S·S_L + |S_L|². So the work does not
depend on the number of outputs, and small nodes, which are most, take little time. In a node with
more samples than outputs the outputs are summed instead. Columns are sorted once; child nodes take
over their order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dia_repro.models.fast.jit import cached_njit

# scikit-learn's limits: values that differ by less are equal, a node with less impurity is a leaf.
LEAST_STEP = np.float32(1e-7)
LEAST_IMPURITY = np.finfo(np.float64).eps
FEW = 24  # nodes with at most as many samples rank them themselves
HANDFUL = 8  # nodes with at most as many samples look up the value of each possible split
OUTPUT_COST = 1.5  # time of adding up an output, in products read

# All functions become one piece of machine code. Separate ones would be optimised once where they
# are compiled and twice where they are read from disk, and sums would come in another order.
compiled = cached_njit(nogil=True, forceinline=True)
# Sums may be in any order, so that the compiler can vectorise them.
compiled_sums = cached_njit(nogil=True, forceinline=True, fastmath={"contract", "reassoc", "nsz"})


class Node(NamedTuple):
    """A node of a tree, by its m samples.

    Attributes:
        samples: (m,) indices.
        products: (m, m), w_a·w_b·y_a·y_b.
        along: (m,) w_a·y_a·S.
        whole: |S|².
        squares: Σ w·|y|².
        weight: W.
    """

    samples: Any
    products: Any
    along: Any
    whole: float
    squares: float
    weight: float


@compiled
def grow(
    x: Any,
    sorted_columns: Any,
    y: Any,
    products: Any,
    weight: Any,
    seed: int,
    least_split: int,
    importances: Any,
) -> None:
    """Grow one tree to its leaves and add up each column's decrease of impurity.

    Args:
        x: (F, n) float32, a row for each column of the regression.
        sorted_columns: (F, n) int32, the samples in the order of each column.
        y: (n, K) float64, outputs minus their mean.
        products: (n, n), y·yᵀ.
        weight: (n,) number of times that each sample is drawn; a sample with 0 is left out.
        seed: seed of the order in which columns are tried, which decides between equal ones.
        least_split: number of samples (2 or more) below which a node is a leaf.
        importances: (F,), the result is added to it, up to a common factor.
    """
    np.random.seed(seed)
    # Each column's order of the samples drawn. All are written, the next one over one that is not
    # drawn, so the last place is spare.
    order = np.empty((len(x), np.count_nonzero(weight) + 1), np.int32)
    drawn = (weight > 0).astype(np.int32)
    for f in range(len(x)):
        kept, count = order[f], 0
        for a in sorted_columns[f]:
            kept[count] = a
            count += drawn[a]
    samples = np.flatnonzero(weight).astype(np.int32)
    columns = np.arange(len(x))
    position_of = np.zeros(len(weight), np.int32)  # position of a sample in its node
    stack = [(0, len(samples))]
    while stack:
        start, end = stack.pop()
        m = end - start
        if m < least_split:
            continue
        node = _weigh(samples[start:end], weight, products, position_of)
        impurity = node.squares / node.weight - node.whole / (node.weight * node.weight)
        if impurity / y.shape[1] <= LEAST_IMPURITY:
            continue
        if m <= HANDFUL:
            column, position, value = _best_of_a_handful(x, weight, columns, node)
        else:
            part = order[:, start:end]
            column, position, value = _best_split(x, part, y, weight, columns, node, position_of)
        if column < 0:
            continue
        importances[column] += value - node.whole / node.weight
        if m > 2:
            middle = start + position
            _divide(x, order, samples, start, end, column, middle)
            stack.append((middle, end))
            stack.append((start, middle))


@compiled
def _weigh(samples: Any, weight: Any, products: Any, position_of: Any) -> Node:
    """Return a node, and fill in the positions of its samples."""
    m = len(samples)
    own, along = np.empty((m, m)), np.empty(m)
    whole, squares, w_node = 0.0, 0.0, 0.0
    for i in range(m):
        a = samples[i]
        position_of[a] = i
        w_node += weight[a]
        squares += weight[a] * products[a, a]
        row = 0.0
        for j in range(m):
            own[i, j] = weight[a] * weight[samples[j]] * products[a, samples[j]]
            row += own[i, j]
        along[i] = row
        whole += row
    return Node(samples, own, along, whole, squares, w_node)


@compiled
def _best_split(
    x: Any, order: Any, y: Any, weight: Any, columns: Any, node: Node, position_of: Any
) -> Any:
    """Return the column, the number of samples that go left, and the value of the best split.

    Of equal columns it is the first in a random order; the column is -1 if none can be split.
    """
    m, outputs = len(node.samples), y.shape[1]
    by_outputs = m > FEW and outputs < OUTPUT_COST * m
    rows = np.empty((m if by_outputs else 0, outputs))
    for i in range(len(rows)):
        for k in range(outputs):
            rows[i, k] = weight[node.samples[i]] * y[node.samples[i], k]
    at, rank = np.empty(m, np.int32), np.empty(m)
    sums, left = np.empty(outputs), np.empty(m)
    here, own, loads = np.empty(m, np.float32), np.empty(m, np.float32), np.empty(m)
    for i in range(m):
        loads[i] = weight[node.samples[i]]
    best, best_column, best_position = -np.inf, -1, 0
    np.random.shuffle(columns)
    for f in columns:
        values = x[f]
        if m > FEW:
            for i in range(m):
                a = order[f, i]
                at[i] = position_of[a]
                here[i] = values[a]
        else:
            for i in range(m):
                own[i] = values[node.samples[i]]
            _rank(own, rank)
            for i in range(m):
                position = int(rank[i])
                at[position] = i
                here[position] = own[i]
        if here[m - 1] <= here[0] + LEAST_STEP:
            continue
        if by_outputs:
            _left_by_outputs(rows, node.products, at, sums, left)
        else:
            for i in range(m):
                rank[at[i]] = i
            _left_by_products(node.products, at, rank, left)
        w_left, across = 0.0, 0.0
        for i in range(m - 1):
            w_left += loads[at[i]]
            across += node.along[at[i]]
            if here[i + 1] <= here[i] + LEAST_STEP:
                continue
            right = node.whole - 2.0 * across + left[i]
            value = left[i] / w_left + right / (node.weight - w_left)
            if value > best:
                best, best_column, best_position = value, f, i + 1
    return best_column, best_position, best


@compiled
def _best_of_a_handful(x: Any, weight: Any, columns: Any, node: Node) -> Any:
    """Return the same as `_best_split`, for a node of 2 to `HANDFUL` samples."""
    m = len(node.samples)
    worth = _worth_of_each_parting(weight, node)
    values = np.empty(m, np.float32)
    best, best_column, best_position = -np.inf, -1, 0
    np.random.shuffle(columns)
    for f in columns:
        row = x[f]
        for i in range(m):
            values[i] = row[node.samples[i]]
        for i in range(m):
            left = 0  # the samples up to this one's value: no sorting, and no branch to guess
            for j in range(m):
                left |= (values[j] <= values[i]) << j
            value = worth[left]
            if value < best or (value == best and f != best_column):
                continue
            count = _count_of(left)
            first = value > best or count < best_position  # of a column's equal splits
            if first and not _is_near_another(values, values[i]):
                best, best_column, best_position = value, f, count
        if m == 2 and best_column >= 0:  # any other column would split them as well
            break
    return best_column, best_position, best


@compiled
def _is_near_another(values: Any, value: Any) -> bool:
    """Return whether a larger value is so near that it counts as equal."""
    near = 0
    for other in values:
        near += value < other <= value + LEAST_STEP
    return near > 0


@compiled
def _count_of(bits: int) -> int:
    """Return how many bits are set."""
    count = 0
    while bits:
        bits &= bits - 1
        count += 1
    return count


@compiled
def _worth_of_each_parting(weight: Any, node: Node) -> Any:
    """Return the value of each split, (2^m,); the bits of an index are the samples that go left."""
    m, own = len(node.samples), node.products
    everyone = (1 << m) - 1
    squares, weights = np.zeros(everyone + 1), np.zeros(everyone + 1)
    for some in range(1, everyone + 1):
        a = 0
        while not some >> a & 1:
            a += 1
        others = some & (some - 1)
        across = 0.0
        for b in range(a + 1, m):
            if others >> b & 1:
                across += own[a, b]
        squares[some] = squares[others] + 2.0 * across + own[a, a]
        weights[some] = weights[others] + weight[node.samples[a]]
    worth = np.full(everyone + 1, -np.inf)  # with all on the left there is no split
    for some in range(1, (everyone + 1) // 2):
        rest = everyone ^ some
        worth[some] = squares[some] / weights[some] + squares[rest] / weights[rest]
        worth[rest] = worth[some]
    return worth


@compiled_sums
def _left_by_outputs(rows: Any, own: Any, at: Any, sums: Any, left: Any) -> None:
    """Fill in |S_L|² after each sample of an order but the last, by sums of outputs."""
    outputs = rows.shape[1]
    for k in range(outputs):
        sums[k] = 0.0
    square, last, i = 0.0, len(at) - 1, 0
    while i + 4 <= last:  # four at a time: the sums are read and written once
        a, b, c, d = rows[at[i]], rows[at[i + 1]], rows[at[i + 2]], rows[at[i + 3]]
        dot_a, dot_b, dot_c, dot_d = 0.0, 0.0, 0.0, 0.0
        for k in range(outputs):
            total = sums[k]
            dot_a += total * a[k]
            total += a[k]
            dot_b += total * b[k]
            total += b[k]
            dot_c += total * c[k]
            total += c[k]
            dot_d += total * d[k]
            sums[k] = total + d[k]
        for dot in (dot_a, dot_b, dot_c, dot_d):
            square += 2.0 * dot + own[at[i], at[i]]
            left[i] = square
            i += 1
    while i < last:
        a = rows[at[i]]
        dot_a = 0.0
        for k in range(outputs):
            dot_a += sums[k] * a[k]
            sums[k] += a[k]
        square += 2.0 * dot_a + own[at[i], at[i]]
        left[i] = square
        i += 1


@compiled_sums
def _rank(values: Any, rank: Any) -> None:
    """Fill in the place of each of a few values in their order; equal ones stay in theirs.

    Comparing all pairs has no branch that the processor could guess wrong.
    """
    m = len(values)
    for i in range(m):
        v, place = values[i], 0.0
        for j in range(i):
            place += 1.0 if values[j] <= v else 0.0
        for j in range(i + 1, m):
            place += 1.0 if values[j] < v else 0.0
        rank[i] = place


@compiled_sums
def _left_by_products(own: Any, at: Any, rank: Any, left: Any) -> None:
    """Fill in the same by rows of products, without the samples that are not on the left yet.

    Args:
        rank: each sample's place in the order.
    """
    m = len(at)
    square = 0.0
    for i in range(m - 1):
        row = own[at[i]]
        dot = 0.0
        for b in range(m):
            dot += row[b] if rank[b] < i else 0.0
        square += 2.0 * dot + row[at[i]]
        left[i] = square


@compiled
def _divide(
    x: Any, order: Any, samples: Any, start: int, end: int, column: int, middle: int
) -> None:
    """Put a node's samples left and right of `middle`, in every column's order, too."""
    if end - start <= FEW:
        _sort(samples[start:end], x[column])
        return
    chosen = order[column, start:end]
    samples[start:end] = chosen
    if max(middle - start, end - middle) <= FEW:  # the children sort for themselves
        return
    goes_left = np.zeros(x.shape[1], np.bool_)
    for a in chosen[: middle - start]:
        goes_left[a] = True
    others = np.empty(end - middle, np.int32)
    for f in range(len(order)):
        row = order[f, start:end]
        lefts, rights = 0, 0
        for a in row:
            if goes_left[a]:
                row[lefts] = a
                lefts += 1
            else:
                others[rights] = a
                rights += 1
        row[lefts:] = others


@compiled
def _sort(items: Any, values: Any) -> None:
    """Sort a few samples by their values, in place."""
    for i in range(1, len(items)):
        a = items[i]
        v = values[a]
        j = i
        while j > 0 and values[items[j - 1]] > v:
            items[j] = items[j - 1]
            j -= 1
        items[j] = a
