#include "parallel/frame_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace trireme {

namespace {

bool would_block() {
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

bool connects(int descriptor, const sockaddr_in& to, std::chrono::milliseconds patience) {
    if (::connect(descriptor, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) return true;
    if (errno != EINPROGRESS) return false;
    pollfd ready{descriptor, POLLOUT, 0};
    if (poll(&ready, 1, static_cast<int>(patience.count())) != 1) return false;
    int error = 0;
    socklen_t size = sizeof error;
    return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

}  // namespace

FrameSocket::FrameSocket(int descriptor) : descriptor_(descriptor) {
    fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
    const int on = 1;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

std::optional<FrameSocket> FrameSocket::connect(const std::vector<std::string>& addresses,
                                                uint16_t port, std::chrono::milliseconds patience) {
    for (const std::string& address : addresses) {
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(port);
        if (inet_pton(AF_INET, address.c_str(), &to.sin_addr) != 1) continue;
        const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (descriptor < 0) return std::nullopt;
        if (connects(descriptor, to, patience)) return FrameSocket(descriptor);
        close(descriptor);
    }
    return std::nullopt;
}

FrameSocket::FrameSocket(FrameSocket&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      open_(other.open_),
      limit_(other.limit_),
      in_(std::move(other.in_)),
      out_(std::move(other.out_)) {}

FrameSocket& FrameSocket::operator=(FrameSocket&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    std::swap(open_, other.open_);
    std::swap(limit_, other.limit_);
    std::swap(in_, other.in_);
    std::swap(out_, other.out_);
    return *this;
}

FrameSocket::~FrameSocket() {
    if (descriptor_ >= 0) close(descriptor_);
}

void FrameSocket::poll_on(std::vector<pollfd>& descriptors) const {
    if (!open_) return;
    descriptors.push_back(
        {descriptor_, static_cast<short>(POLLIN | (has_unsent() ? POLLOUT : 0)), 0});
}

void FrameSocket::send(const std::string& text) {
    const uint32_t length = htonl(static_cast<uint32_t>(text.size()));
    out_.append(reinterpret_cast<const char*>(&length), sizeof length);
    out_ += text;
    flush();
}

void FrameSocket::flush() {
    while (has_unsent()) {
        const ssize_t sent = ::send(descriptor_, out_.data(), out_.size(), MSG_NOSIGNAL);
        if (sent > 0) {
            out_.erase(0, static_cast<size_t>(sent));
        } else {
            if (!would_block()) open_ = false;
            return;
        }
    }
}

void FrameSocket::receive() {
    std::array<char, 16384> part;
    while (open_) {
        const ssize_t got = recv(descriptor_, part.data(), part.size(), 0);
        if (got > 0) {
            in_.append(part.data(), static_cast<size_t>(got));
            if (in_.size() > limit_ + sizeof(uint32_t)) return;  // the rest after next_frame()
        } else {
            if (got == 0 || !would_block()) open_ = false;
            return;
        }
    }
}

std::optional<std::string> FrameSocket::next_frame() {
    uint32_t length = 0;
    if (in_.size() < sizeof length) return std::nullopt;
    std::memcpy(&length, in_.data(), sizeof length);
    length = ntohl(length);
    if (length > limit_) {
        open_ = false;
        in_.clear();
        return std::nullopt;
    }
    if (in_.size() < sizeof length + length) return std::nullopt;
    std::string text = in_.substr(sizeof length, length);
    in_.erase(0, sizeof length + length);
    return text;
}

ListeningSocket::ListeningSocket() {
    descriptor_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_ANY);
    socklen_t size = sizeof at;
    if (descriptor_ < 0 || bind(descriptor_, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0 ||
        listen(descriptor_, SOMAXCONN) != 0 ||
        getsockname(descriptor_, reinterpret_cast<sockaddr*>(&at), &size) != 0) {
        const std::string reason = std::strerror(errno);
        if (descriptor_ >= 0) close(descriptor_);
        throw Error(ExitCode::io, "watchdog: cannot listen for the other ranks: " + reason);
    }
    port_ = ntohs(at.sin_port);
}

ListeningSocket::~ListeningSocket() {
    close(descriptor_);
}

std::optional<FrameSocket> ListeningSocket::accept() {
    const int descriptor = accept4(descriptor_, nullptr, nullptr, SOCK_CLOEXEC);
    if (descriptor < 0) return std::nullopt;
    return FrameSocket(descriptor);
}

std::vector<std::string> own_addresses() {
    std::vector<std::string> addresses;
    ifaddrs* interfaces = nullptr;
    if (getifaddrs(&interfaces) != 0) return addresses;
    for (const ifaddrs* one = interfaces; one; one = one->ifa_next) {
        if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET) continue;
        if ((one->ifa_flags & IFF_LOOPBACK) != 0 || (one->ifa_flags & IFF_UP) == 0) continue;
        std::array<char, INET_ADDRSTRLEN> text{};
        const auto* at = reinterpret_cast<const sockaddr_in*>(one->ifa_addr);
        if (inet_ntop(AF_INET, &at->sin_addr, text.data(), text.size())) {
            addresses.emplace_back(text.data());
        }
    }
    freeifaddrs(interfaces);
    return addresses;
}

}  // namespace trireme
