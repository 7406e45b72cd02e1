"""The Gram matrix of the task gradients, read once, summed in the same order on every run."""

# mypy: ignore-errors
# ruff: noqa: RUF005
# A kernel's values have no Python types, and Triton cannot unpack into a tuple.

# T tasks, P shared parameters

import triton
import triton.language as tl


@triton.jit
def to_float64(values):
    """float64 of any floating block, exactly."""
    if values.dtype == tl.float64:
        return values
    # By way of float32, since Triton's interpreter converts bfloat16 to nothing else.
    return values.to(tl.float32).to(tl.float64)


@triton.jit
def partial_products_kernel(
    gradients,
    partials,
    row_stride,
    num_columns,
    blocks_per_program,
    num_programs,
    NUM_TASKS: tl.constexpr,
    THREADS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Stage 1: the products of every two gradients over one program's slice of the columns.

    With one column a program, gradients [[1, 0], [-1, 1]] give the partial products [1, 0] of
    g_1 g_1, [-1, 0] of g_2 g_1 and [1, 1] of g_2 g_2.

    A thread loads `WIDTH` adjacent columns of each gradient, 16 bytes, and adds their products to
    sums of its own, one for each of the T (T + 1) / 2 pairs. For float32 that is 5 float64
    instructions a pair and 4 columns, against 4 T bytes a column. By count, at 8 tasks they take a
    third of the time of the bytes on an H100 (132 processors, 64 float64 lanes, 3.35 TB/s) and
    0.6 of it on an A100 (108, 32, 2 TB/s); at 16 tasks 0.6 and 1.1. Beyond 11 tasks (8 in
    bfloat16) not all the sums fit in registers, and some go by way of the L1 cache.

    Args:
        gradients: [T, P], columns adjacent, rows `row_stride` apart.
        partials: [T (T + 1) / 2, num_programs] float64; pair (i, j), j <= i, is row
            i (i + 1) / 2 + j.

    Moves T P s bytes in, s the bytes of an entry, and 4 T (T + 1) num_programs out.
    """
    BLOCK: tl.constexpr = THREADS * WIDTH
    columns = tl.arange(0, THREADS)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    program = tl.program_id(0).to(tl.int64)
    start = program * blocks_per_program * BLOCK
    sums = ()
    for _ in tl.static_range(NUM_TASKS * (NUM_TASKS + 1) // 2):
        sums = sums + (tl.zeros([THREADS], tl.float64),)
    for _ in range(blocks_per_program):
        inside = columns < num_columns - start
        row = gradients + start
        rows = ()
        for _ in tl.static_range(NUM_TASKS):
            rows = rows + (to_float64(tl.load(row + columns, mask=inside, other=0.0)),)
            row += row_stride
        added = ()
        for i in tl.static_range(NUM_TASKS):
            for j in tl.static_range(i + 1):
                product = tl.sum(rows[i] * rows[j], axis=1)
                added = added + (sums[i * (i + 1) // 2 + j] + product,)
        sums = added
        start += BLOCK
    for pair in tl.static_range(NUM_TASKS * (NUM_TASKS + 1) // 2):
        tl.store(partials + pair * num_programs + program, tl.sum(sums[pair], axis=0))


@triton.jit
def sum_partials_kernel(
    partials, gram, num_programs, NUM_TASKS: tl.constexpr, AT_ONCE: tl.constexpr
):
    """Stage 2: program (i, j) adds up the partial products of one pair and writes K_ij and K_ji.

    Partial products [1, 0], [-1, 0] and [1, 1] give the Gram [[1, -1], [-1, 2]].

    Args:
        partials: [T (T + 1) / 2, num_programs] float64, as stage 1 leaves it.
        gram: [T, T] float64.

    Moves 4 T (T + 1) num_programs bytes in and 8 T^2 out.
    """
    i = tl.program_id(0)
    j = tl.program_id(1)
    if j <= i:
        pair = partials + (i * (i + 1) // 2 + j) * num_programs
        places = tl.arange(0, AT_ONCE)
        sums = tl.zeros([AT_ONCE], tl.float64)
        for start in range(0, num_programs, AT_ONCE):
            sums += tl.load(pair + start + places, mask=start + places < num_programs, other=0.0)
        total = tl.sum(sums, axis=0)
        tl.store(gram + i * NUM_TASKS + j, total)
        if j < i:
            tl.store(gram + j * NUM_TASKS + i, total)
