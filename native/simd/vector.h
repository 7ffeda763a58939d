// Vectors of one instruction set. All functions are in the target's namespace or internal to the translation unit, so
// that the linker never merges two instruction sets.
//
// V<T> is a vector of kLanes<T> elements. Bits<T> is a vector of signed integers of the same width, which comparisons
// return (all ones for true). The compiler does the arithmetic, element by element, correctly rounded.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define GLASSCELL_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define GLASSCELL_UNROLL _Pragma("unroll")
#else
#define GLASSCELL_UNROLL _Pragma("GCC unroll 16")
#endif

namespace glasscell::GLASSCELL_TARGET {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kRegisters = 32;
constexpr int kTileRows = 6;  // 6 rows x 4 vectors = 24 accumulators
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
constexpr int kRegisters = 16;
constexpr int kTileRows = 3;
#elif defined(__ARM_NEON)
constexpr int kVectorBytes = 16;
constexpr int kRegisters = 32;
constexpr int kTileRows = 6;
#else
constexpr int kVectorBytes = 16;
constexpr int kRegisters = 16;
constexpr int kTileRows = 2;
#endif

template <class T> constexpr int kLanes = kVectorBytes / int(sizeof(T));

// How many vectors hold n elements.
template <class T> GLASSCELL_INLINE int64_t vector_count(int64_t n) { return (n + kLanes<T> - 1) / kLanes<T>; }

template <class T> struct Vec;
template <> struct Vec<float> {
    typedef float type __attribute__((vector_size(kVectorBytes)));
    typedef int32_t bits __attribute__((vector_size(kVectorBytes)));
};
template <> struct Vec<double> {
    typedef double type __attribute__((vector_size(kVectorBytes)));
    typedef int64_t bits __attribute__((vector_size(kVectorBytes)));
};
template <class T> using V = typename Vec<T>::type;
template <class T> using Bits = typename Vec<T>::bits;
typedef V<float> F32;
typedef V<double> F64;

template <class T> GLASSCELL_INLINE V<T> load(const T* from) {
    V<T> v = {};
    memcpy(&v, from, sizeof v);
    return v;
}

// Keeps a vector in a register. Otherwise a compiler may read the vector from memory again for each use, and loads then
// limit the speed.
template <class Vector> GLASSCELL_INLINE void hold(Vector& v) {
#if defined(__x86_64__)
    __asm__("" : "+v"(v));
#elif defined(__ARM_NEON)
    __asm__("" : "+w"(v));
#else
    (void)v;
#endif
}

template <class T> GLASSCELL_INLINE void store(T* to, V<T> v) { memcpy(to, &v, sizeof v); }

template <class T> GLASSCELL_INLINE V<T> broadcast(T value) {
    V<T> v = {};
    GLASSCELL_UNROLL
    for (int k = 0; k < kLanes<T>; ++k) v[k] = value;
    return v;
}

// Loads the first n lanes, 0 < n <= kLanes. The other lanes are zero, and memory beyond is not read.
template <class T> GLASSCELL_INLINE V<T> load_n(const T* from, int64_t n) {
    if (n >= kLanes<T>) return load<T>(from);
    V<T> v = {};
    for (int64_t k = 0; k < n; ++k) v[k] = from[k];
    return v;
}

template <class T> GLASSCELL_INLINE void store_n(T* to, V<T> v, int64_t n) {
    if (n >= kLanes<T>) return store<T>(to, v);
    for (int64_t k = 0; k < n; ++k) to[k] = v[k];
}

// Stores a vector past the caches, for data that is not read soon: the vector's cache line is not loaded first, and
// displaces no other. `to` starts a cache line. Other threads see the vector after flush_stores(). Where a vector is
// shorter than a cache line, this is an ordinary store.
template <class T> GLASSCELL_INLINE void stream_store(T* to, V<T> v) { store<T>(to, v); }
#if defined(__AVX512F__)
constexpr bool kStreamsStores = true;
template <> GLASSCELL_INLINE void stream_store<float>(float* to, F32 v) { _mm512_stream_ps(to, (__m512)v); }
template <> GLASSCELL_INLINE void stream_store<double>(double* to, F64 v) { _mm512_stream_pd(to, (__m512d)v); }
GLASSCELL_INLINE void flush_stores() { _mm_sfence(); }
#else
constexpr bool kStreamsStores = false;
GLASSCELL_INLINE void flush_stores() {}
#endif

// Interleaves one half of a with the same half of b: a[First], b[First], a[First + 1], b[First + 1], ...
template <class T, int First> GLASSCELL_INLINE V<T> interleave(V<T> a, V<T> b) {
#if defined(__clang__)
    V<T> v = {};
    GLASSCELL_UNROLL
    for (int k = 0; k < kLanes<T>; ++k) v[k] = (k % 2 ? b : a)[First + k / 2];
    return v;
#else
    Bits<T> from = {};
    for (int k = 0; k < kLanes<T>; ++k) from[k] = First + k / 2 + k % 2 * kLanes<T>;
    return __builtin_shuffle(a, b, from);
#endif
}

// a * b + c, rounded once. Without an FMA instruction the C library's fma gives the same bits, slowly.
#if defined(__AVX512F__)
GLASSCELL_INLINE F32 fma(F32 a, F32 b, F32 c) { return (F32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
GLASSCELL_INLINE F64 fma(F64 a, F64 b, F64 c) { return (F64)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
template <> GLASSCELL_INLINE F32 broadcast<float>(float value) { return (F32)_mm512_set1_ps(value); }
template <> GLASSCELL_INLINE F64 broadcast<double>(double value) { return (F64)_mm512_set1_pd(value); }
template <> GLASSCELL_INLINE F32 load_n<float>(const float* from, int64_t n) {
    return (F32)_mm512_maskz_loadu_ps(n >= 16 ? 0xffff : __mmask16((1u << n) - 1), from);
}
template <> GLASSCELL_INLINE F64 load_n<double>(const double* from, int64_t n) {
    return (F64)_mm512_maskz_loadu_pd(n >= 8 ? 0xff : __mmask8((1u << n) - 1), from);
}
template <> GLASSCELL_INLINE void store_n<float>(float* to, F32 v, int64_t n) {
    _mm512_mask_storeu_ps(to, n >= 16 ? 0xffff : __mmask16((1u << n) - 1), (__m512)v);
}
template <> GLASSCELL_INLINE void store_n<double>(double* to, F64 v, int64_t n) {
    _mm512_mask_storeu_pd(to, n >= 8 ? 0xff : __mmask8((1u << n) - 1), (__m512d)v);
}
#elif defined(__AVX2__)
GLASSCELL_INLINE F32 fma(F32 a, F32 b, F32 c) { return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
GLASSCELL_INLINE F64 fma(F64 a, F64 b, F64 c) { return (F64)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
template <> GLASSCELL_INLINE F32 broadcast<float>(float value) { return (F32)_mm256_set1_ps(value); }
template <> GLASSCELL_INLINE F64 broadcast<double>(double value) { return (F64)_mm256_set1_pd(value); }
#elif defined(__ARM_NEON)
template <> GLASSCELL_INLINE F32 broadcast<float>(float value) { return (F32)vdupq_n_f32(value); }
template <> GLASSCELL_INLINE F64 broadcast<double>(double value) { return (F64)vdupq_n_f64(value); }
GLASSCELL_INLINE F32 fma(F32 a, F32 b, F32 c) { return (F32)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
GLASSCELL_INLINE F64 fma(F64 a, F64 b, F64 c) { return (F64)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
#else
GLASSCELL_INLINE F32 fma(F32 a, F32 b, F32 c) {
    F32 v = {};
    for (int k = 0; k < kLanes<float>; ++k) v[k] = __builtin_fmaf(a[k], b[k], c[k]);
    return v;
}
GLASSCELL_INLINE F64 fma(F64 a, F64 b, F64 c) {
    F64 v = {};
    for (int k = 0; k < kLanes<double>; ++k) v[k] = __builtin_fma(a[k], b[k], c[k]);
    return v;
}
#endif

// The square root, correctly rounded.
template <class T> GLASSCELL_INLINE V<T> sqrt(V<T> x);
#if defined(__AVX512F__)
template <> GLASSCELL_INLINE F32 sqrt<float>(F32 x) { return (F32)_mm512_maskz_sqrt_ps(0xffff, (__m512)x); }
template <> GLASSCELL_INLINE F64 sqrt<double>(F64 x) { return (F64)_mm512_maskz_sqrt_pd(0xff, (__m512d)x); }
#elif defined(__AVX2__)
template <> GLASSCELL_INLINE F32 sqrt<float>(F32 x) { return (F32)_mm256_sqrt_ps((__m256)x); }
template <> GLASSCELL_INLINE F64 sqrt<double>(F64 x) { return (F64)_mm256_sqrt_pd((__m256d)x); }
#elif defined(__ARM_NEON)
template <> GLASSCELL_INLINE F32 sqrt<float>(F32 x) { return (F32)vsqrtq_f32((float32x4_t)x); }
template <> GLASSCELL_INLINE F64 sqrt<double>(F64 x) { return (F64)vsqrtq_f64((float64x2_t)x); }
#else
template <> GLASSCELL_INLINE F32 sqrt<float>(F32 x) {
    for (int k = 0; k < kLanes<float>; ++k) x[k] = __builtin_sqrtf(x[k]);
    return x;
}
template <> GLASSCELL_INLINE F64 sqrt<double>(F64 x) {
    for (int k = 0; k < kLanes<double>; ++k) x[k] = __builtin_sqrt(x[k]);
    return x;
}
#endif

template <class T> GLASSCELL_INLINE Bits<T> as_bits(V<T> v) { return (Bits<T>)v; }
template <class T> GLASSCELL_INLINE V<T> as_float(Bits<T> v) { return (V<T>)v; }

// mask ? a : b, lane by lane; a NaN in a comparison is false.
template <class T> GLASSCELL_INLINE V<T> select(Bits<T> mask, V<T> a, V<T> b) { return mask ? a : b; }

// Bounds x from below or above; NaN stays NaN.
template <class T> GLASSCELL_INLINE V<T> at_least(V<T> x, double low) {
    const V<T> bound = broadcast<T>(T(low));
    return select<T>(x < bound, bound, x);
}
template <class T> GLASSCELL_INLINE V<T> at_most(V<T> x, double high) {
    const V<T> bound = broadcast<T>(T(high));
    return select<T>(x > bound, bound, x);
}
#if defined(__AVX512F__)  // one instruction, which gives its second operand where either operand is NaN
template <> GLASSCELL_INLINE F32 at_least<float>(F32 x, double low) {
    return (F32)_mm512_maskz_max_ps(0xffff, (__m512)broadcast<float>(float(low)), (__m512)x);
}
template <> GLASSCELL_INLINE F32 at_most<float>(F32 x, double high) {
    return (F32)_mm512_maskz_min_ps(0xffff, (__m512)broadcast<float>(float(high)), (__m512)x);
}
#elif defined(__AVX2__)
template <> GLASSCELL_INLINE F32 at_least<float>(F32 x, double low) {
    return (F32)_mm256_max_ps((__m256)broadcast<float>(float(low)), (__m256)x);
}
template <> GLASSCELL_INLINE F32 at_most<float>(F32 x, double high) {
    return (F32)_mm256_min_ps((__m256)broadcast<float>(float(high)), (__m256)x);
}
#endif

}  // namespace glasscell::GLASSCELL_TARGET
