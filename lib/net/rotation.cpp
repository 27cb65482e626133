// One authority after another: every step is a file that is replaced as a whole, and after each of
// them the folder is one that the next command understands.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/errors.hpp"
#include "base/new_file.hpp"
#include "net/authority.hpp"
#include "net/detail/certificates.hpp"

namespace fedctl::net {

namespace fs = std::filesystem;
using namespace detail;

namespace {

void move_file(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    throw RunDirectoryError(to + ": cannot rename into place: " + std::strerror(errno));
  }
  sync_folder_of(to);
}

void remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0) {
    throw RunDirectoryError(path + ": cannot remove: " + std::strerror(errno));
  }
  sync_folder_of(path);
}

bool belongs_to(const std::string& key, X509& certificate) {
  if (!fs::exists(key)) return false;
  const bool same = X509_check_private_key(&certificate, read_private_key(key, "ca").get()) == 1;
  ERR_clear_error();
  return same;
}

template <class T>
void write_all_of(const std::string& path, const std::vector<T>& parts) {
  const std::string text = pem_of_all(parts);
  replace_file(path, as_bytes_of(std::string_view(text)));
}

}  // namespace

Authority::Lock::Lock(const std::string& folder)
    : file_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (file_ < 0 || ::flock(file_, LOCK_EX) != 0) {
    throw RunDirectoryError(folder + ": cannot lock: " + std::strerror(errno));
  }
}
Authority::Lock::~Lock() { ::close(file_); }

Authority::Lock::Lock(const Authority& authority) : Lock(authority.folder_) { authority.settle(); }

void Authority::drop_lists_of_strangers() const {
  const std::vector<Certificate> authorities = read_certificates(trusted(), "ca");
  std::vector<RevocationList> lists = read_revocation_lists(revoked(), "ca");
  const std::size_t dropped = std::erase_if(lists, [&](const RevocationList& list) {
    return std::ranges::none_of(authorities, [&](const Certificate& authority) {
      return X509_NAME_cmp(X509_CRL_get_issuer(list.get()),
                           X509_get_subject_name(authority.get())) == 0;
    });
  });
  if (dropped > 0) write_all_of(revoked(), lists);
}

// previous.key goes last: as long as it is there, there is something left to do.
void Authority::drop_previous() const {
  drop_lists_of_strangers();
  const Certificate current = std::move(read_certificates(trusted(), "ca").front());
  // What the old one has issued is worth nothing now.
  for (const auto& entry : fs::directory_iterator(file("issued"))) {
    if (entry.path().extension() != ".pem") continue;
    const Certificate issued = std::move(read_certificates(entry.path(), "ca").front());
    if (!issued_by(*issued, *current)) fs::remove(entry.path());
  }
  remove_file(file("previous.key"));
}

void Authority::settle() const {
  const std::string key = file("authority.key"), next = file("next.key"),
                    previous = file("previous.key");
  const std::vector<Certificate> authorities = read_certificates(trusted(), "ca");
  X509& current = *authorities.front();
  if (fs::exists(next)) {
    if (belongs_to(next, current)) {
      if (fs::exists(key)) move_file(key, previous);
      move_file(next, key);
    } else {
      drop_lists_of_strangers();
      remove_file(next);
    }
  } else if (fs::exists(previous)) {
    // As earlier versions have left it, whose new authority nobody trusted yet.
    if (!belongs_to(key, current) && belongs_to(previous, current)) {
      drop_lists_of_strangers();
      move_file(previous, key);
    } else if (authorities.size() == 1) {
      drop_previous();
    }
  }
}

void Authority::rotate(KeyKind kind, std::int64_t days) const {
  const Lock lock(*this);
  if (fs::exists(file("previous.key"))) {
    throw ConfigError(folder_ + ": a rotation is under way",
                      "fedctl ca rotate --finish, once all have new certificates");
  }
  std::vector<Certificate> authorities = read_certificates(trusted(), "ca");
  std::vector<RevocationList> lists = read_revocation_lists(revoked(), "ca");
  const Key key = make_key(kind);
  authorities.insert(authorities.begin(), make_authority(*key, days));
  lists.insert(lists.begin(), make_list(*authorities.front(), *key));
  // Until authority.pem is written the old one counts, and settle() takes the rest back; from then
  // on the new one does, and settle() moves the keys.
  const std::string text = pem_of(*key);
  replace_file(file("next.key"), as_bytes_of(std::string_view(text)), 0600);
  write_all_of(revoked(), lists);
  write_all_of(trusted(), authorities);
  settle();
}

void Authority::finish_rotation() const {
  const Lock lock(*this);
  if (!fs::exists(file("previous.key"))) {
    throw ConfigError(folder_ + ": no rotation is under way", "fedctl ca rotate begins one");
  }
  std::vector<Certificate> authorities = read_certificates(trusted(), "ca");
  authorities.resize(1);
  write_all_of(trusted(), authorities);
  drop_previous();
}

}  // namespace fedctl::net
