// Compares ratio() of native/simd.h with division, bit for bit, for every float that native/elementwise.h can put in.
// Some seconds on a machine with AVX-512:
//
//   g++ -std=c++17 -O3 -ffp-contract=off -mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma \
//       -DGLASSCELL_TARGET=avx512 -Inative tools/check_division.cpp -o check_division && ./check_division
#include <cstdio>

#include "elementwise.h"

using namespace glasscell::avx512;

static bool differs(F32 a, F32 b) {
    const F32 fast = ratio<float>(a, b), exact = a / b;
    return memcmp(&fast, &exact, sizeof fast) != 0;
}

int main() {
    constexpr uint32_t kOne = 0x3f800000, kLimit = 0x4e000000;  // 1 and 2^29
    long wrong = 0;
    for (uint32_t first = 0; first < kLimit; first += 16) {
        F32 a;
        for (uint32_t k = 0; k < 16; ++k) {
            const uint32_t bits = first < kOne ? first + k : first == kOne ? kOne : first + k;
            float value;
            memcpy(&value, &bits, sizeof value);
            a[k] = value;
        }
        wrong += differs(a, a + broadcast<float>(2));
        if (first <= kOne) wrong += differs(a, a + broadcast<float>(1));
    }
    std::printf("%ld of the vectors differ\n", wrong);
    return wrong != 0;
}
