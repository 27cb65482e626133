// Task: a conversation in progress. The only door to asio's coroutines for the rooms above.
//
// House rules for coroutines (docs/architecture.md): one await per statement, its result in a named
// local; no capturing lambda as a coroutine; parameters by value unless the caller awaits on the
// spot; no lock held across an await; nothing about a peer is still true after an await. GCC 12: no
// braced initialiser list inside an await expression.
#pragma once

#include <boost/asio/awaitable.hpp>

namespace fedctl::talk {

template <class T>
using Task = boost::asio::awaitable<T>;

}  // namespace fedctl::talk
