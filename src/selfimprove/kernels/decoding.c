/* What a decoding step does between its products. A head's size and a row's width are whole numbers of
   pairs of vectors, as is a block of words. */

#include "vectors.h"

enum { KEYS = 64, MOST_PAIRS = 8, WORDS = 256 };

/* What the same queries found elsewhere, with strides of rows, heads and queries. */
typedef struct {
    const void *out;
    const float *lse;
    int64_t out_row, out_head, out_query, lse_row, lse_head, lse_query;
} Part;

typedef struct {
    int64_t rows, heads, queries, size; /* of the queries, contiguous */
    int64_t row, head;                  /* strides of keys and values */
    int64_t parts;
    float scale;
} Sizes;

/* `queries` queries of a row's head; the softmax is online (Milakov and Gimelshein 2018). A part counts
   as one key more, whose score is its log-sum-exp. */
INLINE void attend_some(const void *query, const void *keys, const void *values, void *out, int64_t at,
                        int64_t first, int64_t seen, const Part *parts, int64_t row, int64_t head,
                        int64_t number, const Sizes *is, const int queries, const int64_t pairs,
                        const int half) {
    const int64_t size = pairs * PAIR;
    float top[4], total[4];
    pair found[4][MOST_PAIRS];
    for (int q = 0; q < queries; q++) {
        top[q] = -INFINITY, total[q] = 0.0f;
        for (int64_t d = 0; d < pairs; d++) found[q][d] = (pair){};
        for (int64_t p = 0; p < is->parts; p++) {
            const Part *part = parts + p;
            int64_t there = number + q;
            float lse = part->lse[row * part->lse_row + head * part->lse_head + there * part->lse_query];
            int64_t from = row * part->out_row + head * part->out_head + there * part->out_query;
            float both = lse > top[q] ? lse : top[q];
            float old = expf(top[q] - both), new = expf(lse - both);
            for (int64_t d = 0; d < pairs; d++) {
                pair said = scaled(load_pair(part->out, from + d * PAIR, half), new);
                found[q][d] = plus_times(said, found[q][d], (pair){all(old), all(old)});
            }
            total[q] = total[q] * old + new;
            top[q] = both;
        }
    }
    for (int64_t start = 0; start < seen; start += KEYS) {
        int64_t count = seen - start < KEYS ? seen - start : KEYS;
        float scores[4][KEYS];
        for (int64_t key = 0; key < count; key++) {
            pair product[4] = {};
            for (int64_t d = 0; d < pairs; d++) {
                pair some = load_pair(keys, first + (start + key) * size + d * PAIR, half);
                for (int q = 0; q < queries; q++) {
                    pair asked = load_pair(query, at + q * size + d * PAIR, half);
                    product[q] = plus_times(product[q], some, asked);
                }
            }
            for (int q = 0; q < queries; q++)
                scores[q][key] = sum(product[q].a + product[q].b) * is->scale;
        }
        for (int q = 0; q < queries; q++) {
            for (int64_t key = count; key % LANES; key++) scores[q][key] = -INFINITY;
            vec most = all(top[q]);
            for (int64_t key = 0; key < count; key += LANES)
                most = larger(most, load(scores[q], key, 0));
            float both = largest(most), old = expf(top[q] - both);
            vec sums = all(0.0f);
            for (int64_t key = 0; key < count; key += LANES) {
                vec weights = exponential(load(scores[q], key, 0) - both);
                store(scores[q], key, weights, 0);
                sums += weights;
            }
            total[q] = total[q] * old + sum(sums);
            top[q] = both;
            for (int64_t d = 0; d < pairs; d++) found[q][d] = scaled(found[q][d], old);
        }
        for (int64_t d = 0; d < pairs; d++) {
            pair said[4];
            for (int q = 0; q < queries; q++) said[q] = found[q][d];
            for (int64_t key = 0; key < count; key++) {
                pair value = load_pair(values, first + (start + key) * size + d * PAIR, half);
                for (int q = 0; q < queries; q++) {
                    vec weight = all(scores[q][key]);
                    said[q] = plus_times(said[q], value, (pair){weight, weight});
                }
            }
            for (int q = 0; q < queries; q++) found[q][d] = said[q];
        }
    }
    for (int q = 0; q < queries; q++)
        for (int64_t d = 0; d < pairs; d++)
            store_pair(out, at + q * size + d * PAIR, scaled(found[q][d], 1.0f / total[q]), half);
}

INLINE void attend_lane(int64_t lane, const void *query, const void *keys, const void *values,
                        const int64_t *last, const Part *parts, void *out, const Sizes *is,
                        const int half) {
    const int64_t row = lane / is->heads, head = lane % is->heads;
    const int64_t first = row * is->row + head * is->head, seen = last[row] + 1;
    for (int64_t number = 0; number < is->queries; number += 4) {
        int64_t at = (lane * is->queries + number) * is->size;
#define SOME(count, pairs)                                                                         \
    attend_some(query, keys, values, out, at, first, seen, parts, row, head, number, is, count,    \
                pairs, half)
#define OF_SIZE(count)                                                                             \
    if (is->size == 64) SOME(count, 2);                                                            \
    else SOME(count, is->size / PAIR)
        switch (is->queries - number) {
        case 1: OF_SIZE(1); break;
        case 2: OF_SIZE(2); break;
        case 3: OF_SIZE(3); break;
        default: OF_SIZE(4);
        }
#undef OF_SIZE
#undef SOME
    }
}

/* The first word whose running sum of chances exceeds u times their sum; sums of blocks come first. */
INLINE int64_t first_exceeding(const void *logits, int64_t start, int64_t words, float u,
                               float sharpness, float *sums, const int half) {
    int64_t whole = words / PAIR * PAIR, blocks = (words + WORDS - 1) / WORDS;
    vec most = all(-INFINITY);
    for (int64_t word = 0; word < whole; word += PAIR) {
        pair some = load_pair(logits, start + word, half);
        most = larger(most, larger(some.a, some.b));
    }
    float top = largest(most);
    for (int64_t word = whole; word < words; word++) {
        float some = one(logits, start + word, half);
        top = some > top ? some : top;
    }
    float total = 0.0f;
    for (int64_t block = 0; block < blocks; block++) {
        int64_t word = block * WORDS, end = word + WORDS < words ? word + WORDS : words;
        vec chances = all(0.0f);
        for (; word + PAIR <= end; word += PAIR) {
            pair some = load_pair(logits, start + word, half);
            chances += exponential((some.a - top) * sharpness);
            chances += exponential((some.b - top) * sharpness);
        }
        float rest = 0.0f;
        for (; word < end; word++) rest += expf((one(logits, start + word, half) - top) * sharpness);
        total += sums[block] = sum(chances) + rest;
    }
    float wanted = u * total, running = 0.0f;
    int64_t block = 0, latest = -1;
    while (block < blocks - 1 && running + sums[block] <= wanted) running += sums[block++];
    /* Added up in another order, a block's last running sum may fall short of its sum. */
    int64_t end = (block + 1) * WORDS < words ? (block + 1) * WORDS : words;
    for (int64_t word = block * WORDS; word < end; word++) {
        float chance = expf((one(logits, start + word, half) - top) * sharpness);
        running += chance;
        if (chance > 0.0f) latest = word;
        if (running > wanted && chance > 0.0f) return word;
    }
    return latest < 0 ? words - 1 : latest;
}

/* Turns queries and keys by their positions (Su et al. 2021) and puts keys and values where rows keep
   them. `mixed` has a row's queries, keys and values side by side; of `sin` the first half is negated. */
typedef struct {
    int64_t rows, queries, heads, size; /* heads of queries, of keys */
    int64_t row, head;                  /* strides of the kept keys and values */
} Turned;

INLINE void turn_row(int64_t row, const void *mixed, const void *cos, const void *sin,
                     const int64_t *last, void *query, void *keys, void *values, const Turned *is,
                     const int half) {
    const int64_t size = is->size, middle = size / 2, all_heads = is->queries + 2 * is->heads;
    for (int64_t number = 0; number < all_heads; number++) {
        int64_t from = (row * all_heads + number) * size, head = number - is->queries;
        void *to = head < 0 ? query : head < is->heads ? keys : values;
        int64_t at = (row * is->queries + number) * size;
        if (head >= 0) at = row * is->row + (head % is->heads) * is->head + last[row] * size;
        if (head >= is->heads) {
            for (int64_t d = 0; d < size; d += LANES)
                store(to, at + d, load(mixed, from + d, half), half);
            continue;
        }
        for (int64_t d = 0; d < middle; d += LANES) {
            vec a = load(mixed, from + d, half), b = load(mixed, from + middle + d, half);
            int64_t angle = row * size + d;
            vec turned = a * load(cos, angle, half) + b * load(sin, angle, half);
            store(to, at + d, turned, half);
            turned = b * load(cos, angle + middle, half) + a * load(sin, angle + middle, half);
            store(to, at + middle + d, turned, half);
        }
    }
}

BOTH(own_keys,
     (const void *query, const void *keys, const void *values, const int64_t *last,
      const Part *parts, void *out, const Sizes *is),
     is->rows * is->heads, attend_lane(i, query, keys, values, last, parts, out, is, half))

BOTH(choose,
     (const void *logits, const float *u, int64_t *tokens, float *sums, int64_t rows, int64_t words,
      int64_t stride, float sharpness),
     rows, tokens[i] = first_exceeding(logits, i * stride, words, u[i], sharpness,
                                       sums + i * ((words + WORDS - 1) / WORDS), half))

BOTH(turn_and_keep,
     (const void *mixed, const void *cos, const void *sin, const int64_t *last, void *query,
      void *keys, void *values, const Turned *is),
     is->rows, turn_row(i, mixed, cos, sin, last, query, keys, values, is, half))
