#pragma once

#include <poll.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace trireme {

// A TCP connection that carries texts, each with its length before it. Never blocks: what does not
// leave at once is kept for flush(). One thread at a time.
class FrameSocket {
public:
    // Takes over a connected descriptor.
    explicit FrameSocket(int descriptor);
    // Tries the addresses (IPv4, dotted) in order, each for so long; nothing when none answers.
    static std::optional<FrameSocket> connect(const std::vector<std::string>& addresses,
                                              uint16_t port, std::chrono::milliseconds patience);
    FrameSocket(FrameSocket&& other) noexcept;
    FrameSocket& operator=(FrameSocket&& other) noexcept;
    FrameSocket(const FrameSocket&) = delete;
    FrameSocket& operator=(const FrameSocket&) = delete;
    ~FrameSocket();

    int descriptor() const { return descriptor_; }
    // False once the other side has closed, has failed, or has sent a text over the limit.
    bool is_open() const { return open_; }
    bool has_unsent() const { return open_ && !out_.empty(); }
    // What poll() is to wait for; nothing once it is closed.
    void poll_on(std::vector<pollfd>& descriptors) const;
    // What an unknown peer may send at most.
    void limit_frames(size_t bytes) { limit_ = bytes; }

    void send(const std::string& text);
    void flush();
    void receive();                           // what has arrived
    std::optional<std::string> next_frame();  // of it

private:
    int descriptor_ = -1;
    bool open_ = true;
    size_t limit_ = size_t{4} << 20;
    std::string in_, out_;
};

// Waits for connections on a port that the system chooses, on all IPv4 interfaces.
class ListeningSocket {
public:
    ListeningSocket();  // throws Error (io)
    ~ListeningSocket();
    ListeningSocket(const ListeningSocket&) = delete;
    ListeningSocket& operator=(const ListeningSocket&) = delete;

    int descriptor() const { return descriptor_; }
    uint16_t port() const { return port_; }
    std::optional<FrameSocket> accept();  // nothing when nobody has come

private:
    int descriptor_ = -1;
    uint16_t port_ = 0;
};

// This host's IPv4 addresses as others may reach it, without the loopback's.
std::vector<std::string> own_addresses();

}  // namespace trireme
