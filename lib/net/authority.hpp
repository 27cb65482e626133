// Authority: the certificates of one federation, in a folder (docs/security.md):
//
//   authority.pem   who is trusted, the newest first        servers and clients need it
//   revoked.pem     a revocation list of each               the server needs it
//   authority.key   signs new certificates                  stays here
//   previous.key    signs revocations of the one before     stays here, until finish_rotation()
//   next.key        of an authority that is being made      gone when rotate() returns
//   issued/         a copy of every certificate
//
// authority.pem says what is so: a command that is killed at any point leaves a folder from which
// servers and clients read what is true, and the next command first finishes or undoes the rest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fedctl::net {

enum class KeyKind { ed25519, p256 };

class Authority {
 public:
  // Makes the folder and its authority. Throws ConfigError if there is one.
  static Authority init(const std::string& folder, KeyKind kind, std::int64_t days);
  // Throws ConfigError if there is none.
  explicit Authority(std::string folder);

  struct Issued {
    std::string certificate, key;  // files
  };
  // Where the certificate of the clients `ids` ("3", "0-7") will be: OUT/client-IDS.pem and .key.
  static Issued client_files(const std::string& ids, const std::string& out);
  // Makes it. All functions throw ConfigError on what is there already, RunDirectoryError on what
  // cannot be written. A key without its certificate is one that a killed command has left, and is
  // used.
  Issued issue_client(const std::string& ids, const std::string& out, KeyKind kind,
                      std::int64_t days) const;
  // For a server under these names or addresses, to OUT/server.pem and .key.
  Issued issue_server(const std::vector<std::string>& hosts, const std::string& out, KeyKind kind,
                      std::int64_t days) const;
  // Revokes every certificate issued for a client among `ids`, or the one in the file. Returns the
  // serial numbers that were not revoked before, in hex.
  std::vector<std::string> revoke_clients(const std::string& ids) const;
  std::vector<std::string> revoke_file(const std::string& certificate) const;
  // A new authority signs from now on; both are trusted. Throws ConfigError if a rotation is under
  // way.
  void rotate(KeyKind kind, std::int64_t days) const;
  // The one before is trusted no more.
  void finish_rotation() const;

  std::string trusted() const { return folder_ + "/authority.pem"; }
  std::string revoked() const { return folder_ + "/revoked.pem"; }

 private:
  std::string file(const char* name) const { return folder_ + '/' + name; }
  // One command at a time: holds the folder until destruction.
  class Lock {
   public:
    explicit Lock(const std::string& folder);
    // And what an interrupted command has left half done is done, or undone.
    explicit Lock(const Authority& authority);
    ~Lock();
    Lock(const Lock&) = delete;

   private:
    int file_;
  };
  void settle() const;
  void drop_previous() const;
  // Revocation lists of authorities that are trusted no more, or not yet.
  void drop_lists_of_strangers() const;
  std::vector<std::string> revoke(const std::string& certificate) const;

  std::string folder_;
};

}  // namespace fedctl::net
