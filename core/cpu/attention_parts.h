#pragma once

#include "core/cpu/attention_layout.h"
#include "core/cpu/parallel_for.h"

// How attention's blocks are dealt to threads, whatever multiplies them.
namespace trireme::attention {

// Calls body(b, kv, first, step, thread) for every key/value head, in parts: a part makes the
// output of every `step`th block of queries from `first`. Blocks before the shape's first query are
// left out.
template <typename Body>
void for_forward_parts(const Sizes& s, int threads, const Body& body) {
    const int64_t units = s.shape.batch * s.shape.kv_heads;
    const int64_t begin = s.first_query_block();
    const int64_t parts = parts_for(threads, units, 4 * threads, s.blocks - begin);
    parallel_tasks(threads, units * parts, [&](int64_t task, int thread) {
        const int64_t unit = task / parts;
        body(unit / s.shape.kv_heads, unit % s.shape.kv_heads, begin + task % parts, parts, thread);
    });
}

// What a backward task makes: gradients of every `step`th block, from `first`, of one side or,
// with step 1, of both. Each gradient is summed in the same order in all three cases.
struct BackwardPart {
    bool queries = true;
    bool keys = true;
    int64_t first = 0;
    int64_t step = 1;
};

// Calls body(b, kv, part, thread) for all parts of every key/value head.
template <typename Body>
void for_backward_parts(const Sizes& s, int threads, const Body& body) {
    // A part makes the gradients of one side only, and the probabilities are made twice: worth it
    // only where threads would else have nothing to do.
    const int64_t units = s.shape.batch * s.shape.kv_heads;
    const int64_t parts = parts_for(threads, units, threads, s.blocks);
    const int64_t sides = parts == 1 ? 1 : 2;
    parallel_tasks(threads, units * parts * sides, [&](int64_t task, int thread) {
        const int64_t unit = task / sides / parts;
        BackwardPart part;
        if (sides == 2) {
            part.queries = task % 2 == 0;
            part.keys = !part.queries;
            part.first = task / sides % parts;
            part.step = parts;
        }
        body(unit / s.shape.kv_heads, unit % s.shape.kv_heads, part, thread);
    });
}

// Calls body(query_block, key_block) for the blocks of one head that a part needs, in the order in
// which gradients are summed. Blocks of which no query sees a key are left out; those on the
// diagonal never are, so that a block of keys always begins with its own queries.
template <typename Body>
void for_blocks_of_part(const Sizes& s, int64_t b, const BackwardPart& part, const Body& body) {
    const int64_t key_step = part.keys ? part.step : 1;
    const int64_t query_step = part.queries ? part.step : 1;
    for (int64_t k = part.keys ? part.first : 0; k < s.blocks; k += key_step) {
        // The first block of the part's queries that sees these keys.
        const int64_t begin = part.queries ? part.first : 0;
        const int64_t skipped = std::max<int64_t>(0, k - begin);
        for (int64_t q = begin + round_up(skipped, query_step); q < s.blocks; q += query_step) {
            if (s.first_key_block(b, q) > k) break;  // nor do the queries behind
            body(q, k);
        }
    }
}

// Sums of a head's gradients, rows of s.padded f32, to where they belong: the part's query blocks,
// times `factor`.
template <typename T>
void unpack_blocks(const Sizes& s, const BackwardPart& part, const float* sums, float factor, T* to,
                   int64_t stride) {
    for (int64_t block = part.first; block < s.blocks; block += part.step) {
        const int64_t first = block * kQueries;
        unpack(s, sums + first * s.padded, std::min(kQueries, s.length - first), factor,
               to + first * stride, stride);
    }
}

}  // namespace trireme::attention
