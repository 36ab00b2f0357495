#include "parallel/finite_probe.h"

#include <cmath>

namespace trireme {

FiniteProbe::FiniteProbe(Device& device, int n_places) : device_(device) {
    arena_.emplace(make_arena(device, "gradient probe", [&](Arena& arena) {
        squares_ = arena.take(DType::f64, {n_places});
    }));
}

void FiniteProbe::begin_step() {
    device_.ops().fill_zero(device_.compute(), squares_);
}

void FiniteProbe::look_at(int place, const Tensor& gradient) {
    device_.ops().add_squared_norm(device_.compute(), gradient, squares_.flat_range(place, 1));
}

std::vector<int> FiniteProbe::not_finite() const {
    std::vector<double> squares(static_cast<size_t>(squares_.elements()));
    device_.copy_to_host(squares.data(), squares_.data, squares_.bytes());
    device_.compute().synchronize();
    std::vector<int> places;
    for (size_t i = 0; i < squares.size(); ++i) {
        if (!std::isfinite(squares[i])) places.push_back(static_cast<int>(i));
    }
    return places;
}

}  // namespace trireme
