#include "engine/block_cache.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

#include "engine/huge_pages.h"

namespace glasscell {
namespace {

// An address sanitizer watches only memory of the allocator, so the cache is off under a sanitizer.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GLASSCELL_WATCHED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(GLASSCELL_WATCHED)
constexpr bool kWatched = true;
#else
constexpr bool kWatched = false;
#endif

size_t limit_from_environment() {
    constexpr long kMegabyte = 1 << 20, kMost = long(PTRDIFF_MAX / kMegabyte);
    const char* const text = std::getenv("GLASSCELL_BLOCK_CACHE_MB");
    char* end = nullptr;
    const long n = text && *text ? std::strtol(text, &end, 10) : 512;
    if ((end && *end) || n < 0 || n > kMost)
        throw std::invalid_argument(
            std::string("GLASSCELL_BLOCK_CACHE_MB: expected a number of megabytes, 0 for none, got '") + text + "'");
    return kWatched ? 0 : size_t(n * kMegabyte);
}

void* map(size_t bytes) {
    void* const start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return nullptr;
    advise_huge_pages(start, bytes);
    return start;
}

void unmap(Block block) { munmap(block.start, block.bytes); }

class BlockCache {
  public:
    Block take(size_t bytes) {
        const std::lock_guard<std::mutex> lock(mutex_);
        Block block = take_kept(bytes);
        if (!block.start) block = {map(bytes), bytes};
        if (!block.start && remove_until(INT64_MAX)) block.start = map(bytes);
        if (!block.start) throw std::bad_alloc();
        in_use_ += block.bytes;
        most_in_use_ = std::max(most_in_use_, in_use_);
        return block;
    }

    void give(Block block) {
        const std::lock_guard<std::mutex> lock(mutex_);
        const size_t most = std::min(limit.load(), most_in_use_ + most_in_use_ / 4);
        in_use_ -= block.bytes;
        if (block.bytes > most || !has_timer()) return unmap(block);
        while (count_ == kMostBlocks || kept_bytes_ + block.bytes > most) unmap(remove(0));
        kept_[count_++] = {block, round_};
        kept_bytes_ += block.bytes;
    }

    bool release() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return remove_until(INT64_MAX);
    }

    size_t kept_bytes() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return kept_bytes_;
    }

    // Between these two calls no other thread is inside the cache.
    void before_fork() { mutex_.lock(); }
    void after_fork(bool child) {
        if (child) remove_until(INT64_MAX), timer_ = false;
        mutex_.unlock();
    }

    std::atomic<size_t> limit{limit_from_environment()};
    std::atomic<int> idle{2000};  // milliseconds

  private:
    static constexpr int kMostBlocks = 256;  // the blocks of a deep stack of layers in both directions
    struct Kept {
        Block block;
        int64_t round;  // the round of the timer in which the block was given
    };

    // Takes the smallest kept block that is large enough and at most an eighth larger than asked. So sequences of
    // nearly one length share blocks, and small arrays do not hold large blocks.
    Block take_kept(size_t bytes) {
        int best = -1;
        for (int n = 0; n < count_; ++n) {
            const size_t size = kept_[n].block.bytes;
            if (size >= bytes && size - bytes <= bytes / 8 && (best < 0 || size < kept_[best].block.bytes)) best = n;
        }
        return best < 0 ? Block{} : remove(best);
    }

    Block remove(int n) {
        const Block block = kept_[n].block;
        std::copy(kept_ + n + 1, kept_ + count_, kept_ + n);
        --count_;
        kept_bytes_ -= block.bytes;
        return block;
    }

    bool remove_until(int64_t round) {
        const bool any = count_ && kept_[0].round < round;
        while (count_ && kept_[0].round < round) unmap(remove(0));
        return any;
    }

    // Returns whether the timer, a thread that gives idle blocks to the system, runs. Starts it if it does not.
    bool has_timer() {
        if (timer_) return true;
        try {
            std::thread([this] { run_timer(); }).detach();
            timer_ = true;
        } catch (const std::exception&) {  // no more threads, or no memory for one
        }
        return timer_;
    }

    void run_timer() {
#if defined(__linux__)
        pthread_setname_np(pthread_self(), "glasscell-idle");
#endif
        for (;;) {
            std::this_thread::sleep_for(std::chrono::milliseconds(idle));
            const std::lock_guard<std::mutex> lock(mutex_);
            remove_until(round_++);
            if (count_) continue;
            most_in_use_ = in_use_;
            timer_ = false;
            return;
        }
    }

    std::mutex mutex_;
    Kept kept_[kMostBlocks];  // in the order in which they were given
    int count_ = 0;
    size_t kept_bytes_ = 0, in_use_ = 0, most_in_use_ = 0;
    int64_t round_ = 0;
    bool timer_ = false;
};

// The cache is never destroyed: the timer and arrays outlive the end of main.
BlockCache& cache() {
    static BlockCache* const made = [] {
        BlockCache* const cache = new BlockCache;
        pthread_atfork([] { glasscell::cache().before_fork(); }, [] { glasscell::cache().after_fork(false); },
                       [] { glasscell::cache().after_fork(true); });
        return cache;
    }();
    return *made;
}

}  // namespace

Block take_block(size_t bytes) { return cache().limit ? cache().take(bytes) : Block{}; }
void give_block(Block block) noexcept { cache().give(block); }
bool release_blocks() noexcept { return cache().release(); }

size_t block_cache_bytes() { return cache().kept_bytes(); }
size_t block_cache_limit() { return cache().limit; }
void set_block_cache(size_t limit, int idle_milliseconds) {
    cache().limit = limit, cache().idle = idle_milliseconds;
    cache().release();
}

}  // namespace glasscell
