/* Vectors of LANES numbers, by the extension that gcc and clang share: it names no instruction.

   Tensors are float32 or bfloat16 (`half`); whatever is summed up is float32, and rounded once. */

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 16, PAIR = 2 * LANES };

typedef float vec __attribute__((vector_size(64)));
typedef float vec8 __attribute__((vector_size(32)));
typedef float vec4 __attribute__((vector_size(16)));
typedef int32_t bits __attribute__((vector_size(64)));
typedef uint32_t ubits __attribute__((vector_size(64)));
typedef uint16_t halves __attribute__((vector_size(32)));

#define INLINE static inline __attribute__((always_inline))

INLINE vec all(float x) { return x - (vec){}; }

INLINE vec either(bits mask, vec yes, vec no) {
    return (vec)((mask & (bits)yes) | (~mask & (bits)no));
}

INLINE vec load(const void *from, int64_t at, int half) {
    if (half) {
        halves packed;
        memcpy(&packed, (const uint16_t *)from + at, sizeof packed);
        return (vec)(__builtin_convertvector(packed, ubits) << 16);
    }
    vec x;
    memcpy(&x, (const float *)from + at, sizeof x);
    return x;
}

/* Two vectors side by side, of bfloat16 as even and odd numbers: for whatever asks for no order. */
typedef struct {
    vec a, b;
} pair;

INLINE pair load_pair(const void *from, int64_t at, int half) {
    if (!half) return (pair){load(from, at, 0), load(from, at + LANES, 0)};
    ubits packed;
    memcpy(&packed, (const uint16_t *)from + at, sizeof packed);
    return (pair){(vec)(packed << 16), (vec)(packed & 0xffff0000)};
}

/* To nearest, ties to even: the upper half of what is returned is the bfloat16. */
INLINE ubits rounded(vec x) {
    ubits whole = (ubits)x;
    return whole + 0x7fff + ((whole >> 16) & 1);
}

INLINE void store(void *to, int64_t at, vec x, int half) {
    if (half) {
        halves packed = __builtin_convertvector(rounded(x) >> 16, halves);
        memcpy((uint16_t *)to + at, &packed, sizeof packed);
    } else {
        memcpy((float *)to + at, &x, sizeof x);
    }
}

INLINE void store_pair(void *to, int64_t at, pair x, int half) {
    if (half) {
        ubits packed = (rounded(x.a) >> 16) | (rounded(x.b) & 0xffff0000);
        memcpy((uint16_t *)to + at, &packed, sizeof packed);
    } else {
        store(to, at, x.a, 0);
        store(to, at + LANES, x.b, 0);
    }
}

INLINE pair plus_times(pair sum, pair x, pair y) {
    return (pair){sum.a + x.a * y.a, sum.b + x.b * y.b};
}

/* The same of the last `count` numbers of a row; behind them stands `rest`. `all_of`: numbers of the
   whole tensor, up to which it may be read. */
INLINE pair load_some(const void *from, int64_t at, int64_t count, int64_t all_of, float rest,
                      int half) {
    if (count >= PAIR) return load_pair(from, at, half);
    pair some;
    if (at + PAIR <= all_of) {
        some = load_pair(from, at, half);
    } else {
        union { float whole[PAIR]; uint16_t packed[PAIR]; } there = {};
        if (half) memcpy(there.packed, (const uint16_t *)from + at, (size_t)count * sizeof(uint16_t));
        else memcpy(there.whole, (const float *)from + at, (size_t)count * sizeof(float));
        some = load_pair(&there, 0, half);
    }
    const bits order = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const bits first = half ? order * 2 : order, second = half ? order * 2 + 1 : order + LANES;
    const int32_t end = (int32_t)count;
    return (pair){either(first < end, some.a, all(rest)), either(second < end, some.b, all(rest))};
}

INLINE void store_some(void *to, int64_t at, int64_t count, pair x, int half) {
    if (count >= PAIR) {
        store_pair(to, at, x, half);
        return;
    }
    union { float whole[PAIR]; uint16_t packed[PAIR]; } there;
    store_pair(&there, 0, x, half);
    for (int64_t i = 0; i < count; i++) {
        if (half) ((uint16_t *)to)[at + i] = there.packed[i];
        else ((float *)to)[at + i] = there.whole[i];
    }
}

INLINE pair plus(pair x, pair y) { return (pair){x.a + y.a, x.b + y.b}; }

INLINE pair times(pair x, pair y) { return (pair){x.a * y.a, x.b * y.b}; }

INLINE pair scaled(pair x, float by) { return (pair){x.a * by, x.b * by}; }

INLINE float one(const void *from, int64_t at, int half) {
    if (!half) return ((const float *)from)[at];
    uint32_t whole = (uint32_t)((const uint16_t *)from)[at] << 16;
    float x;
    memcpy(&x, &whole, sizeof x);
    return x;
}

INLINE vec larger(vec a, vec b) { return either(a > b, a, b); }

INLINE float sum(vec x) {
    union { vec v; vec8 part[2]; } a = {x};
    union { vec8 v; vec4 part[2]; } b = {a.part[0] + a.part[1]};
    vec4 c = b.part[0] + b.part[1];
    return (c[0] + c[1]) + (c[2] + c[3]);
}

INLINE float largest(vec x) {
    float most = x[0];
    for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
    return most;
}

/* e^x of x <= 0, within two units in the last place: 2^n times a polynomial; below 2^-126 it is 0, and of
   what is no number it is none. */
INLINE vec exponential(vec x) {
    vec power = x * 1.44269504f;
    bits nothing = power < all(-126.0f);
    power = either(nothing, all(-126.0f), power);
    bits n = __builtin_convertvector(power - 0.5f, bits); /* towards zero: power - n is in [-.5, .5] */
    vec f = power - __builtin_convertvector(n, vec);
    vec y = f * 1.54035304e-4f + 1.33335581e-3f;
    y = y * f + 9.61812911e-3f;
    y = y * f + 5.55041087e-2f;
    y = y * f + 2.40226507e-1f;
    y = y * f + 6.93147181e-1f;
    y = y * f + 1.0f;
    return either(nothing, all(0.0f), y * (vec)((n + 127) << 23));
}

/* A function of each precision, which is known where its loop is compiled. */
#define BOTH(name, parameters, count, ...)                                                         \
    void name##_float32 parameters {                                                               \
        enum { half = 0 };                                                                         \
        _Pragma("omp parallel for schedule(static)")                                               \
        for (int64_t i = 0; i < (count); i++) __VA_ARGS__;                                         \
    }                                                                                              \
    void name##_bfloat16 parameters {                                                              \
        enum { half = 1 };                                                                         \
        _Pragma("omp parallel for schedule(static)")                                               \
        for (int64_t i = 0; i < (count); i++) __VA_ARGS__;                                         \
    }
