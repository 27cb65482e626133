#include "run/signals.hpp"

#include <csignal>
#include <cstdlib>

namespace fedctl::run {

Signals::Signals(std::function<void()> on_first, std::chrono::seconds grace)
    : set_(io_, SIGINT, SIGTERM, SIGUSR1), grace_(grace) {
  struct sigaction hang_up = {};
  ::sigaction(SIGHUP, nullptr, &hang_up);
  if (hang_up.sa_handler != SIG_IGN) set_.add(SIGHUP);  // else nohup has started us
  wait(std::move(on_first));
  thread_ = std::thread([this] { io_.run(); });
}

void Signals::wait(std::function<void()> on_first) {
  set_.async_wait([this, on_first = std::move(on_first)](auto error, int signal) {
    if (error) return;
    if (caught_ != 0) std::_Exit(128 + signal);
    caught_ = signal;
    if (grace_.count() > 0) {
      grace_over_.expires_after(grace_);
      grace_over_.async_wait([signal](auto cancelled) {
        if (!cancelled) std::_Exit(128 + signal);
      });
    }
    on_first();
    wait(on_first);
  });
}

Signals::~Signals() {
  io_.stop();
  thread_.join();
}

}  // namespace fedctl::run
