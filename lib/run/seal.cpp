#include "run/seal.hpp"

#include <charconv>
#include <filesystem>

#include "journal/chain.hpp"
#include "net/signature.hpp"
#include "run/run_directory.hpp"

namespace fedctl::run {
namespace {

std::string path_of(const std::string& run) { return run + "/journal.signature"; }

std::string text_of(const Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string signed_text(std::size_t lines, const std::string& hash) {
  return std::to_string(lines) + ' ' + hash;
}

// What stands before the next separator; the rest stays.
std::string take(std::string& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  std::string word = text.substr(0, end);
  text.erase(0, std::min(end + 1, text.size()));
  return word;
}

}  // namespace

void seal(const std::string& run, const net::TlsFiles& signer) {
  const std::vector<std::string> hashes = journal::verify_chain(run + "/journal.jsonl");
  const std::string text = signed_text(hashes.size(), hashes.back());
  const std::string sealed = std::to_string(hashes.size()) + ' ' +
                             net::sign(signer.key, as_bytes_of(std::string_view(text))) + '\n' +
                             text_of(read_file(signer.certificate));
  write_atomically(path_of(run), as_bytes_of(std::string_view(sealed)));
}

std::size_t check_seal(const std::string& run, const std::vector<std::string>& hashes,
                       const std::string& authority) {
  const std::string path = path_of(run);
  if (!std::filesystem::exists(path)) {
    if (authority.empty()) return 0;
    throw RunDirectoryError(path + ": is not there",
                            "servers with server.tls sign when a run ends");
  }
  std::string text = text_of(read_file(path));
  const std::string number = take(text, ' '), signature = take(text, '\n');
  std::size_t lines = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), lines);
  try {
    if (error != std::errc{} || end != number.data() + number.size() || lines == 0) {
      throw ProtocolError("it does not begin with a number of lines");
    }
    if (lines > hashes.size()) {
      throw ProtocolError("it stands for " + number + " lines, the journal has " +
                          std::to_string(hashes.size()));
    }
    const std::string stands = signed_text(lines, hashes[lines - 1]);
    net::check_signature(text, authority, as_bytes_of(std::string_view(stands)), signature);
  } catch (const ProtocolError& wrong) {
    throw RunDirectoryError(path + ": " + wrong.what(),
                            "the journal and its chain were replaced, or the signature was");
  }
  return lines;
}

}  // namespace fedctl::run
