#include "parallel/control_group.h"

#include <exception>
#include <optional>
#include <utility>

#include "core/cpu/cpu_device.h"
#include "core/error.h"

namespace trireme {

namespace {

Tensor bytes_of(std::string& text) {
    return Tensor(text.data(), DType::u8, {static_cast<int64_t>(text.size())});
}

}  // namespace

ControlGroup::ControlGroup(World& control, const std::string& name)
    : stream_(std::make_unique<CpuStream>()), all_(control.split(0, control.rank(), name)) {}

ControlGroup::~ControlGroup() = default;

int ControlGroup::rank() const {
    return all_->rank();
}

int ControlGroup::size() const {
    return all_->size();
}

void ControlGroup::barrier() {
    all_->barrier();
}

std::string ControlGroup::broadcast(std::string text, int root) {
    int64_t size = static_cast<int64_t>(text.size());
    stream_->wait(
        all_->broadcast(*stream_, Tensor(&size, DType::i64, {1}), root, "length of a message"));
    text.resize(static_cast<size_t>(size));
    if (size > 0) stream_->wait(all_->broadcast(*stream_, bytes_of(text), root, "message"));
    return text;
}

std::vector<std::string> ControlGroup::gather(std::string text) {
    int64_t own = static_cast<int64_t>(text.size());
    std::vector<int64_t> sizes(static_cast<size_t>(size()), own);
    stream_->wait(all_->all_gather(*stream_, Tensor(&own, DType::i64, {1}),
                                   Tensor(sizes.data(), DType::i64, {size()}),
                                   "lengths of messages"));
    if (rank() != 0) {
        if (own > 0) stream_->wait(all_->send(*stream_, bytes_of(text), 0, "message"));
        return {};
    }
    std::vector<std::string> texts{std::move(text)};
    for (int peer = 1; peer < size(); ++peer) {
        texts.emplace_back(static_cast<size_t>(sizes[static_cast<size_t>(peer)]), '\0');
        if (texts.back().empty()) continue;
        stream_->wait(all_->recv(*stream_, bytes_of(texts.back()), peer, "message"));
    }
    return texts;
}

std::vector<std::string> ControlGroup::gather_everywhere(const std::string& text) {
    std::vector<std::string> texts = gather(text);
    texts.resize(static_cast<size_t>(size()));
    for (std::string& one : texts) one = broadcast(std::move(one));
    return texts;
}

double ControlGroup::reduce(double value, ReduceOp op) {
    stream_->wait(all_->all_reduce(*stream_, Tensor(&value, DType::f64, {1}), op, "agreement"));
    return value;
}

double ControlGroup::largest(double value) {
    return reduce(value, ReduceOp::max);
}

double ControlGroup::sum(double value) {
    return reduce(value, ReduceOp::sum);
}

void ControlGroup::run(const char* what, const std::function<void()>& work,
                       const std::function<void()>& clean_up) {
    std::optional<Error> error;
    try {
        work();
    } catch (...) {
        error = as_error(std::current_exception(), what);
    }
    const int worst = static_cast<int>(largest(error ? size() - rank() : 0.0));
    if (worst == 0) return;

    if (rank() == 0 && clean_up) clean_up();
    const int root = size() - worst;
    const bool is_root = rank() == root;
    std::string message = is_root ? error->what() : "";
    if (is_root && size() > 1) message += " (rank " + std::to_string(root) + ")";
    message = broadcast(std::move(message), root);
    // The least code of those that failed would do as well; the root's belongs to its message.
    const double code = largest(is_root ? static_cast<double>(error->code()) : 0.0);
    const bool is_advised = largest(is_root && error->is_advised() ? 1.0 : 0.0) > 0.0;
    barrier();
    const ExitCode agreed = static_cast<ExitCode>(static_cast<int>(code));
    throw is_advised ? Error(agreed, message, "") : Error(agreed, message);
}

}  // namespace trireme
