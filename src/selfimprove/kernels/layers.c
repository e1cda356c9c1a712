/* What lies between the products of a layer: each is one pass over memory, and its gradient another.
   A row's width is a whole number of pairs of vectors. */

#include "vectors.h"

/* Root mean square norm of a row (Zhang and Sennrich 2019), and 1 / the root, which its gradient reads. */
INLINE void norm_row(int64_t row, const void *x, const void *weight, void *out, float *scales,
                     int64_t width, float epsilon, const int half) {
    pair squares = {};
    for (int64_t i = 0; i < width; i += PAIR) {
        pair some = load_pair(x, row * width + i, half);
        squares = plus_times(squares, some, some);
    }
    scales[row] = 1.0f / sqrtf(sum(squares.a + squares.b) / (float)width + epsilon);
    for (int64_t i = 0; i < width; i += PAIR) {
        pair some = scaled(load_pair(x, row * width + i, half), scales[row]);
        store_pair(out, row * width + i, times(some, load_pair(weight, i, half)), half);
    }
}

/* With y = w s x, s the scale: dx = s (w dy - s x mean(w dy s x)), dw = dy s x, summed up over the
   rows of a part. `of_weight` has a row of float32 for each part, in pairs: see vectors.h. */
INLINE void norm_back(int64_t part, const void *x, const void *weight, const void *grad,
                      const float *scales, void *of_x, float *of_weight, int64_t rows, int64_t width,
                      int64_t parts, const int half) {
    float *sums = of_weight + part * width;
    memset(sums, 0, (size_t)width * sizeof *sums);
    for (int64_t row = rows * part / parts; row < rows * (part + 1) / parts; row++) {
        const int64_t at = row * width;
        pair along = {};
        for (int64_t i = 0; i < width; i += PAIR) {
            pair some = scaled(load_pair(x, at + i, half), scales[row]);
            pair product = times(some, load_pair(grad, at + i, half));
            along = plus_times(along, product, load_pair(weight, i, half));
            store_pair(sums, i, plus(load_pair(sums, i, 0), product), 0);
        }
        const float away = -sum(along.a + along.b) / (float)width;
        for (int64_t i = 0; i < width; i += PAIR) {
            pair given = times(load_pair(grad, at + i, half), load_pair(weight, i, half));
            pair some = scaled(load_pair(x, at + i, half), scales[row]);
            given = plus_times(given, some, (pair){all(away), all(away)});
            store_pair(of_x, at + i, scaled(given, scales[row]), half);
        }
    }
}

INLINE vec sigmoid(vec x) {
    vec least = larger(x, -x); /* |x|: nothing overflows */
    vec e = exponential(-least);
    return either(x > all(0.0f), all(1.0f), e) / (e + 1.0f);
}

/* SiLU(gate) * up of a block (Shazeer 2020). */
INLINE void gate_block(int64_t block, const void *gate, const void *up, void *out, int64_t size,
                       const int half) {
    for (int64_t i = block * size; i < (block + 1) * size; i += PAIR) {
        pair g = load_pair(gate, i, half), u = load_pair(up, i, half);
        store_pair(out, i, (pair){g.a * sigmoid(g.a) * u.a, g.b * sigmoid(g.b) * u.b}, half);
    }
}

INLINE vec silu_slope(vec g, vec s) { return s * (g * (1.0f - s) + 1.0f); }

INLINE void gate_back(int64_t block, const void *gate, const void *up, const void *grad,
                      void *of_gate, void *of_up, int64_t size, const int half) {
    for (int64_t i = block * size; i < (block + 1) * size; i += PAIR) {
        pair g = load_pair(gate, i, half), u = load_pair(up, i, half), d = load_pair(grad, i, half);
        pair s = {sigmoid(g.a), sigmoid(g.b)};
        pair slope = {silu_slope(g.a, s.a), silu_slope(g.b, s.b)};
        store_pair(of_gate, i, times(times(d, u), slope), half);
        store_pair(of_up, i, times(d, times(g, s)), half);
    }
}

/* Scores, (rows, heads x queries, keys) in all, and what hides keys from each row's or all rows' queries. */
typedef struct {
    int64_t rows, keys, queries, rows_of_one; /* rows of all heads; those that one bias is for */
    int64_t biases;
    float scale;
} Scores;

INLINE pair biased(const void *scores, const void *bias, int64_t at, int64_t there, int64_t count,
                   const Scores *is, int half) {
    pair score = load_some(scores, at, count, is->rows * is->keys, 0.0f, half);
    pair hidden = load_some(bias, there, count, is->biases, -INFINITY, half);
    return plus(scaled(score, is->scale), hidden);
}

/* softmax(scale score + bias) of a row, in place. */
INLINE void softmax_row(int64_t row, void *scores, const void *bias, const Scores *is,
                        const int half) {
    const int64_t keys = is->keys, at = row * keys;
    const int64_t there = (row / is->rows_of_one * is->queries + row % is->queries) * keys;
    vec most = all(-INFINITY);
    for (int64_t i = 0; i < keys; i += PAIR) {
        pair some = biased(scores, bias, at + i, there + i, keys - i, is, half);
        most = larger(most, larger(some.a, some.b));
    }
    const float top = largest(most);
    vec sums = all(0.0f);
    for (int64_t i = 0; i < keys; i += PAIR) {
        pair some = biased(scores, bias, at + i, there + i, keys - i, is, half);
        sums += exponential(some.a - top) + exponential(some.b - top);
    }
    const float share = 1.0f / sum(sums);
    for (int64_t i = 0; i < keys; i += PAIR) {
        pair some = biased(scores, bias, at + i, there + i, keys - i, is, half);
        some = (pair){exponential(some.a - top), exponential(some.b - top)};
        store_some(scores, at + i, keys - i, scaled(some, share), half);
    }
}

/* Of chances p with gradient g: scale p (g - sum(p g)), in place of g. */
INLINE void softmax_back(int64_t row, const void *chances, void *grad, const Scores *is,
                         const int half) {
    const int64_t keys = is->keys, at = row * keys, all_of = is->rows * keys;
    pair along = {};
    for (int64_t i = 0; i < keys; i += PAIR)
        along = plus_times(along, load_some(chances, at + i, keys - i, all_of, 0.0f, half),
                           load_some(grad, at + i, keys - i, all_of, 0.0f, half));
    const float mean = sum(along.a + along.b);
    for (int64_t i = 0; i < keys; i += PAIR) {
        pair p = load_some(chances, at + i, keys - i, all_of, 0.0f, half);
        pair g = load_some(grad, at + i, keys - i, all_of, 0.0f, half);
        p = times(p, (pair){g.a - mean, g.b - mean});
        store_some(grad, at + i, keys - i, scaled(p, is->scale), half);
    }
}

/* Adds a gradient in bfloat16 to one in float32. */
INLINE void widen_block(int64_t block, float *known, const void *more, int64_t size, int64_t all_of) {
    int64_t end = (block + 1) * size < all_of ? (block + 1) * size : all_of, i = block * size;
    for (; i + LANES <= end; i += LANES)
        store(known, i, load(known, i, 0) + load(more, i, 1), 0);
    for (; i < end; i++) known[i] += one(more, i, 1);
}

BOTH(norm,
     (const void *x, const void *weight, void *out, float *scales, int64_t rows, int64_t width,
      float epsilon),
     rows, norm_row(i, x, weight, out, scales, width, epsilon, half))

BOTH(norm_gradient,
     (const void *x, const void *weight, const void *grad, const float *scales, void *of_x,
      float *of_weight, int64_t rows, int64_t width, int64_t parts),
     parts, norm_back(i, x, weight, grad, scales, of_x, of_weight, rows, width, parts, half))

BOTH(gated, (const void *gate, const void *up, void *out, int64_t blocks, int64_t size), blocks,
     gate_block(i, gate, up, out, size, half))

BOTH(gated_gradient,
     (const void *gate, const void *up, const void *grad, void *of_gate, void *of_up,
      int64_t blocks, int64_t size),
     blocks, gate_back(i, gate, up, grad, of_gate, of_up, size, half))

BOTH(softmax, (void *scores, const void *bias, const Scores *is), is->rows,
     softmax_row(i, scores, bias, is, half))

BOTH(softmax_gradient, (const void *chances, void *grad, const Scores *is), is->rows,
     softmax_back(i, chances, grad, is, half))

void add_rounded_float32(float *known, const void *more, int64_t size, int64_t all_of) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < (all_of + size - 1) / size; i++)
        widen_block(i, known, more, size, all_of);
}
