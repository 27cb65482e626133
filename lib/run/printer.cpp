#include "run/printer.hpp"

#include <unistd.h>

#include <cstdio>

#include "base/legible.hpp"

namespace fedctl::run {
namespace {

constexpr auto kQuietProgress = std::chrono::seconds(10);

}  // namespace

std::string bytes_text(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

Printer::Printer(Format format, bool quiet, bool verbose)
    : table_(format == Format::text ||
             (format == Format::automatic && ::isatty(STDOUT_FILENO) == 1)),
      quiet_(quiet),
      verbose_(verbose),
      terminal_(::isatty(STDERR_FILENO) == 1),
      last_progress_(std::chrono::steady_clock::now()) {}

void Printer::clear_progress() {
  if (progress_shown_) std::fputs("\r\033[K", stderr);
  progress_shown_ = false;
}

void Printer::round(const Row& row, const std::string& line) {
  clear_progress();
  if (!table_) {
    std::printf("%s\n", line.c_str());
  } else {
    if (!header_printed_) {
      std::printf("%7s %9s %9s %10s %9s %10s %10s %8s\n", "round", "accuracy", "loss", "train_loss",
                  "clients", "up", "down", "seconds");
      header_printed_ = true;
    }
    char accuracy[32] = "-", loss[32] = "-", train[32] = "-";
    if (row.evaluated && row.has_accuracy)
      std::snprintf(accuracy, sizeof accuracy, "%.4f", row.accuracy);
    if (row.evaluated) std::snprintf(loss, sizeof loss, "%.4f", row.loss);
    if (row.clients > 0) std::snprintf(train, sizeof train, "%.4f", row.train_loss);
    const std::string replied = std::to_string(row.replied) + '/' + std::to_string(row.clients);
    std::printf("%7lld %9s %9s %10s %9s %10s %10s %8.2f\n", static_cast<long long>(row.round),
                accuracy, loss, train, replied.c_str(), bytes_text(row.bytes_up).c_str(),
                bytes_text(row.bytes_down).c_str(), row.round_ms * 1e-3);
  }
  std::fflush(stdout);
  if (!table_ || ::isatty(STDOUT_FILENO) == 0) {
    progress("round " + std::to_string(row.round) + " of " + std::to_string(row.rounds));
  }
}

void Printer::progress(const std::string& text) {
  if (quiet_) return;
  if (terminal_) {
    std::fprintf(stderr, "\r\033[K%s", text.c_str());
    progress_shown_ = true;
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  if (now - last_progress_ < kQuietProgress) return;
  last_progress_ = now;
  std::fprintf(stderr, "fedctl: %s\n", text.c_str());
}

void Printer::notice(const std::string& text) {
  clear_progress();
  if (!quiet_) std::fprintf(stderr, "fedctl: %s\n", printable(text).c_str());
}

void Printer::detail(const std::string& text) {
  if (verbose_) notice(text);
}

}  // namespace fedctl::run
