// Compares sigmoid, tanh, exp, squareplus and tanh_shrink of native/simd/math.h with the C library's double functions, for every float: the
// largest errors, in spacings of float at the true value, are what that header states. Ends, zeros and NaN are checked
// too, and doubles by samples. The digests are the same for every target and compiler. Two minutes on two threads:
//
//   g++ -std=c++17 -O3 -ffp-contract=off -pthread -mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma
//       -DGLASSCELL_TARGET=avx512 -Inative tools/check_elementwise.cpp -o check_elementwise
//
// Arguments n and k take each n-th float only, from the k-th on: targets without fused multiply-adds take long.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "simd/math.h"

namespace native = glasscell::GLASSCELL_TARGET;

namespace {

template <class T> struct Function {
    const char* name;
    native::V<T> (*vector)(native::V<T>);
    long double (*exact)(long double);  // of double arguments
    double (*quick)(double);            // of float arguments
    double bound, low, high, at_low, at_zero, at_high;
};

template <class T> Function<T> sigmoid(double bound) {
    return {"sigmoid", native::sigmoid<T>, [](long double x) { return 1 / (1 + expl(-x)); },
            [](double x) { return x > 40 ? 1 : x < -200 ? 0 : 1 / (1 + std::exp(-x)); }, bound, 0, 1, 0, 0.5, 1};
}
template <class T> Function<T> tanh(double bound) {
    return {"tanh", native::tanh<T>, [](long double x) { return tanhl(x); },
            [](double x) {
                const double a = std::fabs(x);
                return a < 1e-4 ? x - x * x * x / 3 : a > 20 ? std::copysign(1, x) : std::tanh(x);
            }, bound, -1, 1, -1, 0, 1};
}
template <class T> Function<T> exp(double bound) {
    const double infinity = std::numeric_limits<double>::infinity();
    return {"exp", native::exp<T>, [](long double x) { return expl(x); },
            [](double x) { return x < -200 ? 0 : x > 100 ? 1e40 : std::exp(x); }, bound, 0, infinity, 0, 1, infinity};
}

template <class T> Function<T> squareplus(double bound) {
    const double infinity = std::numeric_limits<double>::infinity();
    return {"squareplus", native::squareplus<T>,
            [](long double x) { return x < 0 ? 2 / (std::hypot(x, 2.0L) - x) : (x + std::hypot(x, 2.0L)) / 2; },
            [](double x) { return x < 0 ? 2 / (std::sqrt(x * x + 4) - x) : (x + std::sqrt(x * x + 4)) / 2; },
            bound, 0, infinity, 0, 1, infinity};
}

// By the series of x cosh x - sinh x below 1, where x - tanh x would lose its digits.
template <class Wide> Wide exact_tanh_shrink(Wide x) {
    if (!(std::fabs(x) < 1)) return x - std::tanh(x);
    Wide sum = 0, term = x;  // term: x^(2k+1) / (2k+1)!
    for (int k = 1; k < 11; ++k) term *= x * x / (2 * k * (2 * k + 1)), sum += 2 * k * term;
    return sum / std::cosh(x);
}
template <class T> Function<T> tanh_shrink(double bound) {
    const double infinity = std::numeric_limits<double>::infinity();
    return {"tanh_shrink", native::tanh_shrink<T>, exact_tanh_shrink<long double>, exact_tanh_shrink<double>,
            bound, -infinity, infinity, -infinity, 0, infinity};
}

// 1 / the spacing of floats, or doubles, at this exact value.
double per_spacing(double exact) {
    int64_t bits = 0;
    memcpy(&bits, &exact, sizeof bits);
    const int64_t exponent = std::max<int64_t>((bits >> 52 & 2047) - 1023, -126);
    const int64_t inverse = (1023 + 23 - exponent) << 52;
    memcpy(&exact, &inverse, sizeof exact);
    return exact;
}
long double per_spacing(long double exact) {
    return std::ldexp(1.0L, 52 - (exact == 0 ? -1022 : std::max(std::ilogb(exact), -1022)));
}

// |got - exact| in spacings of T at the exact value. Infinity stands for the power of two that would follow.
template <class T, class Wide> double error(T got, Wide exact) {
    using Limits = std::numeric_limits<T>;
    static const Wide infinity = std::ldexp(Wide(1), Limits::max_exponent);
    const Wide value = got > Limits::max() ? infinity : Wide(got);
    exact = exact > infinity ? infinity : exact;
    return double(std::fabs(value - exact) * per_spacing(exact));
}

struct Result {
    double worst = 0;
    double at = 0;
    uint64_t digest = 14695981039346656037u;
    bool within = true;  // the bounds, NaN for NaN
};

template <class T, class Wide>
void check(const Function<T>& function, const T* x, Wide (*exact)(Wide), Result& result) {
    constexpr int lanes = native::kLanes<T>;
    T y[lanes];
    native::store<T>(y, function.vector(native::load<T>(x)));
    for (int k = 0; k < lanes; ++k) {
        if (std::isnan(x[k])) {
            result.within &= bool(std::isnan(y[k]));
            continue;
        }
        uint64_t bits = 0;
        memcpy(&bits, y + k, sizeof(T));
        result.digest = (result.digest ^ bits) * 1099511628211u;
        result.within &= y[k] >= function.low && y[k] <= function.high;
        const double missed = error<T, Wide>(y[k], exact(x[k]));
        if (missed > result.worst) result.worst = missed, result.at = double(x[k]);
    }
}

bool report(const char* name, const char* type, double bound, const Result& result) {
    const bool good = result.within && result.worst <= bound;
    std::printf("%-11s %-6s %.4f units in the last place at %.9g, at most %g stated; digest %016llx%s\n", name, type,
                result.worst, result.at, bound, (unsigned long long)result.digest, good ? "" : "  WRONG");
    return good;
}

bool every_float(const Function<float>& function, uint64_t stride, uint64_t offset) {
    constexpr uint64_t kParts = 64;
    std::vector<Result> parts(kParts);
    const auto run = [&](uint64_t first) {
        for (uint64_t part = first; part < kParts; part += 2) {
            constexpr uint64_t size = (uint64_t(1) << 32) / kParts;
            constexpr int lanes = 16;  // of every target, so that the digests agree
            for (uint64_t at = part * size + offset; at < (part + 1) * size; at += lanes * stride) {
                float x[lanes];
                for (int k = 0; k < lanes; ++k) {
                    const uint32_t bits = uint32_t(at + k * stride);
                    memcpy(x + k, &bits, sizeof bits);
                }
                for (int k = 0; k < lanes; k += native::kLanes<float>)
                    check<float, double>(function, x + k, function.quick, parts[part]);
            }
        }
    };
    std::thread other(run, 1);
    run(0);
    other.join();
    Result all;
    for (const Result& part : parts) {
        if (part.worst > all.worst) all.worst = part.worst, all.at = part.at;
        all.digest = (all.digest ^ part.digest) * 1099511628211u;
        all.within &= part.within;
    }
    return report(function.name, "float", function.bound, all);
}

bool some_doubles(const Function<double>& function, uint64_t stride) {
    Result result;
    std::mt19937_64 random(1);
    for (uint64_t n = 0; n < 4000000 / stride; ++n) {
        double x[8];
        for (double& value : x) {
            const uint64_t bits = random(), scale = random() % 24;
            value = std::ldexp(double(int64_t(bits)), -53 - int(scale)) * 0.75;
        }
        for (int k = 0; k < 8; k += native::kLanes<double>)
            check<double, long double>(function, x + k, function.exact, result);
    }
    return report(function.name, "double", function.bound, result);
}

// f(x) of every lane alike.
template <class T> T at(const Function<T>& function, double x) {
    T y[native::kLanes<T>];
    native::store<T>(y, function.vector(native::broadcast<T>(T(x))));
    return y[native::kLanes<T> - 1];
}

template <class T> bool ends(const Function<T>& function) {
    using Limits = std::numeric_limits<T>;
    bool good = std::isnan(at<T>(function, Limits::quiet_NaN())) && std::isnan(at<T>(function, -Limits::quiet_NaN()));
    for (const double x : {double(Limits::infinity()), double(Limits::max()), 1e30, 800.0})
        good &= at<T>(function, x) == T(function.at_high) && at<T>(function, -x) == T(function.at_low);
    for (const double x : {0.0, -0.0, double(Limits::denorm_min())}) {
        const T y = at<T>(function, x), expected = function.at_zero == 0 ? T(x) : T(function.at_zero);
        good &= y == expected && std::signbit(y) == std::signbit(expected);
    }
    if (!good) std::printf("%s: wrong at the ends or at zero\n", function.name);
    return good;
}

}  // namespace

int main(int count, char** arguments) {
    const uint64_t stride = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 1;
    const uint64_t offset = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 0;
    bool good = true;
    for (const auto& function : {sigmoid<float>(2), tanh<float>(2), exp<float>(1)})
        good = every_float(function, stride, offset) && ends(function) && good;
    for (const auto& function : {squareplus<float>(3), tanh_shrink<float>(4)})  // these have their limits far out
        good = every_float(function, stride, offset) && good;
    for (const auto& function : {sigmoid<double>(2.5), tanh<double>(2.5), exp<double>(1.5)})
        good = some_doubles(function, stride) && ends(function) && good;
    for (const auto& function : {squareplus<double>(3), tanh_shrink<double>(4)})
        good = some_doubles(function, stride) && good;
    return good ? 0 : 1;
}
