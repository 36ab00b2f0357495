#include "parallel/flat_layout.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>

#include "core/error.h"

using namespace trireme;

namespace {

ParameterSpec parameter(int64_t rows, int64_t cols) {
    ParameterSpec spec;
    spec.global = {rows, cols};
    spec.box.size = {rows, cols};
    return spec;
}

ParameterSpec adjoining(int64_t rows, int64_t cols) {
    ParameterSpec spec = parameter(rows, cols);
    spec.adjoins_previous = true;
    return spec;
}

ParameterSpec alone(int64_t rows, int64_t cols) {
    ParameterSpec spec = parameter(rows, cols);
    spec.own_bucket = true;
    return spec;
}

// Forty parameters of odd sizes with every trait, some padded.
std::vector<ParameterSpec> random_parameters(unsigned seed) {
    std::mt19937 random(seed);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    std::vector<ParameterSpec> parameters;
    for (int i = 0; i < 40; ++i) {
        ParameterSpec spec = parameter(1 + below(7), 1 + below(41));
        spec.padding_rows = below(3) == 0 ? below(4) : 0;
        spec.own_bucket = below(9) == 0;
        spec.adjoins_previous =
            i > 0 && !spec.own_bucket && !parameters.back().own_bucket && below(3) == 0;
        parameters.push_back(spec);
    }
    return parameters;
}

}  // namespace

TEST_CASE("a flat layout aligns parameters, keeps adjoining ones together and pads buckets",
          "[parallel][flat_layout]") {
    const std::vector<ParameterSpec> parameters = {parameter(3, 5), parameter(1, 7),
                                                   adjoining(2, 3), parameter(5, 5)};
    const FlatLayout layout = plan_flat_layout(parameters, 3, 1 << 20);
    REQUIRE(layout.buckets.size() == 1);
    REQUIRE(layout.offsets == std::vector<int64_t>{0, 16, 23, 32});
    REQUIRE(layout.elements == 96);  // 57 rounded up to 3 * 16
    REQUIRE(layout.shard_of(layout.buckets[0], 2) == FlatLayout::Range{64, 32});
    REQUIRE(layout.shard_elements() == 32);
}

TEST_CASE("buckets are cut from the end of the model", "[parallel][flat_layout]") {
    const std::vector<ParameterSpec> parameters = {
        parameter(1, 16), parameter(2, 16), parameter(2, 16), parameter(3, 16), parameter(1, 16)};
    const FlatLayout layout = plan_flat_layout(parameters, 1, 64);
    REQUIRE(layout.buckets.size() == 3);
    REQUIRE(layout.buckets[0].parameters.front() == 3);
    REQUIRE(layout.buckets[1].parameters.front() == 1);
    REQUIRE(layout.buckets[2].parameters.front() == 0);
    REQUIRE(layout.buckets[2].begin == 0);
    REQUIRE(layout.bucket_of(4) == 0);
    REQUIRE(layout.bucket_of(2) == 1);
    REQUIRE_THROWS_AS(layout.bucket_of(5), InternalError);
}

TEST_CASE("a parameter that asks for its own bucket is alone in it", "[parallel][flat_layout]") {
    const std::vector<ParameterSpec> parameters = {alone(4, 4), parameter(1, 3), parameter(1, 3),
                                                   alone(2, 8), parameter(1, 5)};
    const FlatLayout layout = plan_flat_layout(parameters, 2, 1 << 20);
    REQUIRE(layout.buckets.size() == 4);
    REQUIRE(layout.bucket_of(0) == 3);
    REQUIRE(layout.bucket_of(1) == 2);
    REQUIRE(layout.bucket_of(2) == 2);
    REQUIRE(layout.bucket_of(3) == 1);
    REQUIRE(layout.bucket_of(4) == 0);
}

TEST_CASE("buckets by unit lie between whole parameters, and those in one of their own",
          "[parallel][flat_layout]") {
    const auto whole = [](int64_t cols) {
        ParameterSpec spec = parameter(1, cols);
        spec.keep_whole = true;
        return spec;
    };
    const std::vector<ParameterSpec> parameters = {
        alone(3, 5),     parameter(1, 7), whole(5),        whole(5),
        parameter(3, 5), adjoining(1, 5), parameter(1, 9), whole(5),
        parameter(2, 9), whole(5),        parameter(4, 9)};
    const FlatLayout layout = plan_flat_layout_by_unit(parameters, 2);
    REQUIRE(layout.buckets.size() == 6);
    const std::vector<std::vector<int>> expected = {{10}, {8}, {4, 5, 6}, {1}, {0}, {2, 3, 7, 9}};
    for (size_t i = 0; i < expected.size(); ++i) {
        const FlatLayout::Bucket& bucket = layout.buckets[i];
        REQUIRE(bucket.parameters == expected[i]);
        REQUIRE(bucket.is_whole == (i == 5));
        REQUIRE(bucket.size % (bucket.is_whole ? 16 : 32) == 0);
        for (const int p : bucket.parameters) REQUIRE(layout.bucket_of(p) == static_cast<int>(i));
    }
    REQUIRE(layout.whole_elements == 64);
    REQUIRE(layout.buckets[5].begin == 0);
    REQUIRE(layout.offsets[5] == layout.offsets[4] + 15);
    REQUIRE(layout.shard_elements() == 64 + (layout.elements - 64) / 2);

    // Each shard has all of the whole parameters and its part of the others, without overlap.
    std::vector<int> seen(static_cast<size_t>(layout.elements), 0);
    for (int shard = 0; shard < 2; ++shard) {
        std::vector<int> compact(static_cast<size_t>(layout.shard_elements()), 0);
        for_each_segment(layout, parameters, shard, [&](const FlatSegment& segment) {
            const bool is_whole = parameters[static_cast<size_t>(segment.parameter)].keep_whole;
            REQUIRE((segment.flat == segment.compact) == (is_whole || segment.flat.begin == 64));
            for (int64_t e = 0; e < segment.flat.size; ++e) {
                seen[static_cast<size_t>(segment.flat.begin + e)] += is_whole ? shard : 1;
                REQUIRE(++compact.at(static_cast<size_t>(segment.compact.begin + e)) == 1);
            }
        });
    }
    int64_t elements = 0;
    for (const ParameterSpec& spec : parameters) elements += spec.stored_elements();
    REQUIRE(std::count(seen.begin(), seen.end(), 1) == elements);
    REQUIRE(std::count(seen.begin(), seen.end(), 0) == layout.elements - elements);
}

TEST_CASE("a parameter cannot adjoin one in another bucket", "[parallel][flat_layout]") {
    const std::vector<ParameterSpec> first = {adjoining(1, 3)};
    REQUIRE_THROWS_AS(plan_flat_layout(first, 1, 8), InternalError);
    const std::vector<ParameterSpec> behind_own = {alone(1, 3), adjoining(1, 3)};
    REQUIRE_THROWS_AS(plan_flat_layout(behind_own, 1, 8), InternalError);
}

TEST_CASE("any flat layout keeps every rule and its shards cover each element once",
          "[parallel][flat_layout]") {
    for (unsigned seed = 0; seed < 40; ++seed) {
        const std::vector<ParameterSpec> parameters = random_parameters(seed);
        const int shards = 1 + static_cast<int>(seed % 5);
        const int64_t bucket_elements = 1 + 97 * static_cast<int64_t>(seed % 7);
        const FlatLayout layout = plan_flat_layout(parameters, shards, bucket_elements);

        int64_t end = layout.elements;
        int next_parameter = static_cast<int>(parameters.size());
        for (const FlatLayout::Bucket& bucket : layout.buckets) {
            REQUIRE(bucket.begin + bucket.size == end);
            REQUIRE(bucket.size % (16 * shards) == 0);
            const int n_parameters = static_cast<int>(bucket.parameters.size());
            REQUIRE(bucket.parameters.front() + n_parameters == next_parameter);
            REQUIRE(bucket.parameters.back() + 1 == next_parameter);
            end = bucket.begin;
            next_parameter = bucket.parameters.front();
            const ParameterSpec& first = parameters[static_cast<size_t>(next_parameter)];
            REQUIRE_FALSE(first.adjoins_previous);
            if (first.own_bucket) REQUIRE(n_parameters == 1);
        }
        REQUIRE(end == 0);
        REQUIRE(next_parameter == 0);

        std::vector<int> owner(static_cast<size_t>(layout.elements), -1);
        for (size_t i = 0; i < parameters.size(); ++i) {
            const int64_t offset = layout.offsets[i];
            if (parameters[i].adjoins_previous) {
                REQUIRE(offset == layout.offsets[i - 1] + parameters[i - 1].stored_elements());
            } else {
                REQUIRE(offset % 16 == 0);
            }
            for (int64_t e = 0; e < parameters[i].stored_elements(); ++e) {
                int& place = owner[static_cast<size_t>(offset + e)];
                REQUIRE(place == -1);
                place = static_cast<int>(i);
            }
        }

        std::vector<int> seen(owner.size(), 0);
        for (int shard = 0; shard < shards; ++shard) {
            std::vector<int> compact_seen(static_cast<size_t>(layout.shard_elements()), 0);
            for_each_segment(layout, parameters, shard, [&](const FlatSegment& segment) {
                const int64_t offset = layout.offsets[static_cast<size_t>(segment.parameter)];
                REQUIRE(segment.flat.begin == offset + segment.local.begin);
                REQUIRE(segment.flat.size == segment.local.size);
                REQUIRE(segment.compact.size == segment.local.size);
                for (int64_t e = 0; e < segment.flat.size; ++e) {
                    const size_t at = static_cast<size_t>(segment.flat.begin + e);
                    REQUIRE(owner[at] == segment.parameter);
                    ++seen[at];
                    ++compact_seen.at(static_cast<size_t>(segment.compact.begin + e));
                }
            });
            for (int times : compact_seen) REQUIRE(times <= 1);
        }
        for (size_t e = 0; e < owner.size(); ++e) REQUIRE(seen[e] == (owner[e] >= 0 ? 1 : 0));

        int visited = 0;
        for_each_segment(layout, parameters, kWholeLayout, [&](const FlatSegment& segment) {
            const ParameterSpec& spec = parameters[static_cast<size_t>(segment.parameter)];
            REQUIRE(segment.local == FlatLayout::Range{0, spec.stored_elements()});
            REQUIRE(segment.compact == segment.flat);
            ++visited;
        });
        REQUIRE(visited == static_cast<int>(parameters.size()));
    }
}
