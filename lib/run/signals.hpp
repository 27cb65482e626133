// Signals: the first SIGINT, SIGTERM, SIGHUP (a closed terminal) or SIGUSR1 (Slurm, whose time is
// nearly up) asks the run to stop cleanly, the second ends the process at once.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <thread>

namespace fedctl::run {

class Signals {
 public:
  // `on_first` runs on a thread of its own. If this is not destroyed within `grace` after it, the
  // process ends as by a second signal; 0: it may take as long as it takes.
  explicit Signals(std::function<void()> on_first, std::chrono::seconds grace = {});
  ~Signals();
  // The signal that came, or 0.
  int caught() const { return caught_; }

 private:
  void wait(std::function<void()> on_first);

  boost::asio::io_context io_{1};
  boost::asio::signal_set set_;
  boost::asio::steady_timer grace_over_{io_};
  std::chrono::seconds grace_;
  std::atomic<int> caught_ = 0;
  std::thread thread_;
};

}  // namespace fedctl::run
