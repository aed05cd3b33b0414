#include "team.hpp"

#include <algorithm>

namespace scanwright {

namespace {

// Looks before a thread gives its processor away: at a meeting, and between calls.
constexpr int meeting_looks = 200, idle_looks = 2000;

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

}  // namespace

std::size_t Seat::show(View view) {
    const std::uint32_t number = meetings() + 1;
    const std::size_t turn = number % 2;
    views_[turn] = view;
    meetings_.store(number, std::memory_order_release);
    for (const Seat& other : team_->seats_) {
        // Another thread may be one meeting ahead.
        const auto missing = [&] {
            const std::uint32_t reached = other.meetings_.load(std::memory_order_acquire);
            return static_cast<std::int32_t>(reached - number) < 0;
        };
        for (int looks = 0; missing(); ++looks) {
            if (looks < meeting_looks) {
                pause();
            } else {
                std::this_thread::yield();
            }
        }
    }
    return turn;
}

void Seat::add_up(const Rows32& own, std::size_t tokens, Rows32& out) {
    const std::size_t turn = show({own.row(0), own.stride(), own.width()});
    out.shape(tokens, own.width());
    const std::size_t count = tokens * own.stride();
    std::int32_t* const __restrict sums = out.row(0);
    std::fill_n(sums, count, 0);
    for (const Seat& seat : team_->seats_) {
        const std::int32_t* const __restrict values = seat.views_[turn].values;
        for (std::size_t i = 0; i < count; ++i) sums[i] += values[i];
    }
}

void Seat::gather(const Rows32& own, std::size_t tokens, Rows32& out) {
    const std::size_t turn = show({own.row(0), own.stride(), own.width()});
    std::size_t width = 0;
    for (const Seat& seat : team_->seats_) width += seat.views_[turn].width;
    out.shape(tokens, width);
    std::size_t first = 0;
    for (const Seat& seat : team_->seats_) {
        const View& view = seat.views_[turn];
        for (std::size_t t = 0; t < tokens; ++t) {
            std::copy_n(view.values + t * view.stride, view.stride, out.row(t) + first);
        }
        first += view.width;
    }
}

Team::Team(std::size_t size) : seats_(size) {
    for (Seat& seat : seats_) seat.team_ = this;
    try {
        for (std::size_t i = 1; i < size; ++i) threads_.emplace_back(&Team::work, this, i);
    } catch (...) {
        stop();
        throw;
    }
}

void Team::run(const Task& task) {
    task_ = &task;
    call();
    serve(0);
}

void Team::work(std::size_t member) {
    for (std::uint32_t seen = 0;; ++seen) {
        const auto is_called = [&] { return calls_.load(std::memory_order_acquire) != seen; };
        for (int looks = 0; looks < idle_looks && !is_called(); ++looks) pause();
        if (!is_called()) {
            std::unique_lock<std::mutex> lock(mutex_);
            called_.wait(lock, is_called);
        }
        if (task_ == nullptr) return;
        serve(member);
    }
}

void Team::serve(std::size_t member) {
    Seat& seat = seats_[member];
    Seat::current() = &seat;
    (*task_)(member);
    seat.meet();  // all have read what the others have shown
    Seat::current() = nullptr;
}

void Team::call() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        calls_.fetch_add(1, std::memory_order_release);
    }
    called_.notify_all();
}

void Team::stop() {
    task_ = nullptr;
    call();
    for (std::thread& thread : threads_) thread.join();
}

}  // namespace scanwright
