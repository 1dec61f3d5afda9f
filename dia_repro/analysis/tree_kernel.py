"""One tree of a random forest, the same estimator as scikit-learn's, by products of outputs.

What a split is worth is |S_L|²/W_L + |S_R|²/W_R, with S the sum of the outputs on a side and W its
weight. With the products of all pairs of samples at hand, |S_L|² grows by 2·Σ w_a·w_b·y_a·y_b +
w_a²·|y_a|² as sample a joins the left, and |S_R|² = |S|² - 2·S·S_L + |S_L|²: the work no longer
depends on the number of outputs, and small nodes, which are most, cost next to nothing. Where a
node is larger than there are outputs, these are added up instead. Columns are sorted once, and
their order is handed down the tree.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dia_repro.models.fast.jit import cached_njit

# What scikit-learn holds for no difference between values, and for no impurity.
LEAST_STEP = np.float32(1e-7)
LEAST_IMPURITY = np.finfo(np.float64).eps
# Nodes of so few samples sort their columns themselves.
FEW = 24
# Those of so few look up what each way of parting their samples is worth.
HANDFUL = 8
# Adding an output up takes as long as passing over so many products.
OUTPUT_COST = 1.5

compiled = cached_njit(nogil=True)
# Free to add in any order, which takes several at a time.
compiled_sums = cached_njit(nogil=True, fastmath={"contract", "reassoc", "nsz"})


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
        sorted_columns: (F, n) int32, the samples in the order of each.
        y: (n, K) float64, outputs, their mean taken off.
        products: (n, n), y·yᵀ.
        weight: (n,) how often each sample is drawn; those with 0 stay out.
        seed: of the order in which columns are tried, which decides between equal ones.
        least_split: samples (2 or more) without which a node is a leaf.
        importances: (F,), added to, up to a common factor.
    """
    np.random.seed(seed)
    order = _drawn_only(sorted_columns, weight)
    total = order.shape[1]
    samples = np.flatnonzero(weight).astype(np.int32)
    columns = np.arange(len(x))
    place = np.zeros(len(weight), np.int32)  # of a sample in its node
    along = np.empty(total)  # w_a · y_a · S
    stack = [(0, total)]
    while stack:
        start, end = stack.pop()
        m = end - start
        if m < least_split:
            continue
        node = samples[start:end]
        own = np.empty((m, m))
        whole, squares, w_node = _weigh(node, weight, products, own, along, place)
        impurity = squares / w_node - whole / (w_node * w_node)
        if impurity / y.shape[1] <= LEAST_IMPURITY:
            continue
        if m <= HANDFUL:
            column, position, value = _best_of_a_handful(x, weight, columns, node, own)
        else:
            column, position, value = _best_split(
                x, order, y, weight, columns, node, start, own, along, place, whole, w_node
            )
        if column < 0:
            continue
        importances[column] += value - whole / w_node
        if m > 2:
            middle = start + position
            _divide(x, order, samples, start, end, column, middle)
            stack.append((middle, end))
            stack.append((start, middle))


@compiled
def _drawn_only(sorted_columns: Any, weight: Any) -> Any:
    """The order of each column without the samples that are not drawn, (F, drawn)."""
    columns = len(sorted_columns)
    order = np.empty((columns, np.count_nonzero(weight)), np.int32)
    for f in range(columns):
        i = 0
        for a in sorted_columns[f]:
            if weight[a] > 0:
                order[f, i] = a
                i += 1
    return order


@compiled
def _weigh(node: Any, weight: Any, products: Any, own: Any, along: Any, place: Any) -> Any:
    """Fill in a node's weighted products; return |S|², Σ w·|y|² and W."""
    m = len(node)
    whole, squares, w_node = 0.0, 0.0, 0.0
    for i in range(m):
        a = node[i]
        place[a] = i
        w_node += weight[a]
        squares += weight[a] * products[a, a]
        row = 0.0
        for j in range(m):
            own[i, j] = weight[a] * weight[node[j]] * products[a, node[j]]
            row += own[i, j]
        along[i] = row
        whole += row
    return whole, squares, w_node


@compiled
def _best_split(
    x: Any,
    order: Any,
    y: Any,
    weight: Any,
    columns: Any,
    node: Any,
    start: int,
    own: Any,
    along: Any,
    place: Any,
    whole: float,
    w_node: float,
) -> Any:
    """The column, the samples that go left, and what it is worth; a column of -1 where none is.

    The first of equal ones, in an order of columns that is drawn for each node.
    """
    m, outputs = len(node), y.shape[1]
    by_outputs = m > FEW and outputs < OUTPUT_COST * m
    rows = np.empty((m if by_outputs else 0, outputs))
    for i in range(len(rows)):
        for k in range(outputs):
            rows[i, k] = weight[node[i]] * y[node[i], k]
    here, at, rank = np.empty(m, np.int32), np.empty(m, np.int32), np.empty(m)
    sums, left = np.empty(outputs), np.empty(m)
    best, best_column, best_position = -np.inf, -1, 0
    _shuffle(columns)
    for f in columns:
        values = x[f]
        if m > FEW:
            here[:] = order[f, start : start + m]
        else:
            here[:] = node
            _sort(here, values)
        if values[here[m - 1]] <= values[here[0]] + LEAST_STEP:
            continue
        for i in range(m):
            at[i] = place[here[i]]
        if by_outputs:
            _left_by_outputs(rows, own, at, sums, left)
        else:
            _left_by_products(own, at, rank, left)
        w_left, across = 0.0, 0.0
        for i in range(m - 1):
            w_left += weight[here[i]]
            across += along[at[i]]
            if values[here[i + 1]] <= values[here[i]] + LEAST_STEP:
                continue
            right = whole - 2.0 * across + left[i]
            value = left[i] / w_left + right / (w_node - w_left)
            if value > best:
                best, best_column, best_position = value, f, i + 1
    return best_column, best_position, best


@compiled
def _best_of_a_handful(x: Any, weight: Any, columns: Any, node: Any, own: Any) -> Any:
    """Return the same as `_best_split`, for a node of 2 to `HANDFUL` samples."""
    m = len(node)
    worth = _worth_of_each_parting(weight, node, own)
    values, bits = np.empty(m, np.float32), np.empty(m, np.int64)
    best, best_column, best_position = -np.inf, -1, 0
    _shuffle(columns)
    for f in columns:
        row = x[f]
        for i in range(m):
            v = row[node[i]]
            j = i
            while j > 0 and values[j - 1] > v:
                values[j], bits[j] = values[j - 1], bits[j - 1]
                j -= 1
            values[j], bits[j] = v, 1 << i
        left = 0
        for i in range(m - 1):
            left |= bits[i]
            if values[i + 1] > values[i] + LEAST_STEP and worth[left] > best:
                best, best_column, best_position = worth[left], f, i + 1
        if m == 2 and best_column >= 0:  # any other column would part them as well
            break
    return best_column, best_position, best


@compiled
def _worth_of_each_parting(weight: Any, node: Any, own: Any) -> Any:
    """Return the worth of sending left the samples that a number's bits say, (2^m,)."""
    m = len(node)
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
        weights[some] = weights[others] + weight[node[a]]
    worth = np.empty(everyone + 1)
    for some in range(1, (everyone + 1) // 2):
        rest = everyone ^ some
        worth[some] = squares[some] / weights[some] + squares[rest] / weights[rest]
        worth[rest] = worth[some]
    return worth


@compiled_sums
def _left_by_outputs(rows: Any, own: Any, at: Any, sums: Any, left: Any) -> None:
    """|S_L|² after each sample of an order but the last, by the outputs themselves."""
    outputs = rows.shape[1]
    for k in range(outputs):
        sums[k] = 0.0
    square = 0.0
    for i in range(len(at) - 1):
        row = rows[at[i]]
        dot = 0.0
        for k in range(outputs):
            dot += sums[k] * row[k]
            sums[k] += row[k]
        square += 2.0 * dot + own[at[i], at[i]]
        left[i] = square


@compiled_sums
def _left_by_products(own: Any, at: Any, rank: Any, left: Any) -> None:
    """The same, by the products of all pairs, read in a row, those not yet left masked out."""
    m = len(at)
    for i in range(m):
        rank[at[i]] = i
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
    """Put a node's samples left and right of `middle`, and every column's order of them."""
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


@compiled
def _shuffle(items: Any) -> None:
    for i in range(len(items) - 1, 0, -1):
        j = np.random.randint(i + 1)
        items[i], items[j] = items[j], items[i]
