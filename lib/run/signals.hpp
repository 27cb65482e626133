// Signals: the first SIGINT or SIGTERM asks the run to stop cleanly, the second ends the process at
// once.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <functional>
#include <thread>

namespace fedctl::run {

class Signals {
 public:
  // `on_first` runs on a thread of its own.
  explicit Signals(std::function<void()> on_first);
  ~Signals();
  // The signal that came, or 0.
  int caught() const { return caught_; }

 private:
  void wait(std::function<void()> on_first);

  boost::asio::io_context io_{1};
  boost::asio::signal_set set_;
  std::atomic<int> caught_ = 0;
  std::thread thread_;
};

}  // namespace fedctl::run
