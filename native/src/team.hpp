// Threads that compute one stream together, and how they exchange what crosses their shares.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "requantizer.hpp"

namespace scanwright {

class Team;

// A thread's place in its team. At every meeting each thread shows a matrix to all others; all wait
// until the last one has come. A matrix shown must stay as it is until the next meeting but one has
// begun for this thread: `scratch` gives such matrices in turn.
class alignas(128) Seat {  // two lines, as processors fetch them in pairs
public:
    // That of this thread while it runs a team's task.
    static Seat& of_thread() { return *current(); }

    // Matrix to be shown at the next meeting.
    Rows32& scratch() { return scratch_[meetings() % 2]; }

    // out = the sum of what all threads show, (tokens, width).
    void add_up(const Rows32& own, std::size_t tokens, Rows32& out);

    // out = what all threads show, side by side.
    void gather(const Rows32& own, std::size_t tokens, Rows32& out);

    // Waits for all others.
    void meet() { show({}); }

private:
    friend class Team;
    struct View {
        const std::int32_t* values = nullptr;
        std::size_t stride = 0, width = 0;
    };

    static Seat*& current() {
        thread_local Seat* seat = nullptr;
        return seat;
    }
    std::uint32_t meetings() const { return meetings_.load(std::memory_order_relaxed); }
    // Meets the others; returns which of the two views of every seat then counts.
    std::size_t show(View view);

    // Read by all others; the views take turns, as a thread may go on to the next meeting while
    // another still reads.
    std::atomic<std::uint32_t> meetings_{0};
    View views_[2];
    // Only of this thread.
    alignas(128) Team* team_ = nullptr;
    Rows32 scratch_[2];
};

// A caller's thread and those that help it. They sleep between calls, after a short wait.
class Team {
public:
    using Task = std::function<void(std::size_t member)>;

    explicit Team(std::size_t size);
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;
    ~Team() { stop(); }

    std::size_t size() const { return seats_.size(); }

    // Runs the task in every thread, as member 0 in the caller's, and returns when all have done. It
    // must not throw.
    void run(const Task& task);

private:
    friend class Seat;
    void work(std::size_t member);
    void serve(std::size_t member);
    void call();
    void stop();

    std::vector<Seat> seats_;
    const Task* task_ = nullptr;  // null ends the threads
    std::atomic<std::uint32_t> calls_{0};
    std::mutex mutex_;
    std::condition_variable called_;
    std::vector<std::thread> threads_;
};

}  // namespace scanwright
