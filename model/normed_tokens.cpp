#include "model/normed_tokens.h"

namespace trireme {

NormedTokens::NormedTokens(const ModelContext& context, const Norm& norm, const Tensor& normed,
                           const Norm::Statistics& statistics, const Tensor& gathered,
                           Gather gather, const char* label)
    : context_(&context),
      norm_(&norm),
      normed_(normed),
      statistics_(statistics),
      gathers_at_once_(gather == Gather::at_once),
      gather_(context, gathered_place(context, normed, gathered), label) {}

void NormedTokens::make(const Tensor& x, int piece) {
    norm_->forward(piece_of(*context_, x, piece), normed_of(piece),
                   statistics_.of_piece(*context_, piece));
    if (gathers_at_once_) start(piece);
}

void NormedTokens::make_all(const Tensor& x) {
    for (int piece = 0; piece < context_->pieces; ++piece) make(x, piece);
}

void NormedTokens::make(const ResidualAdd& add, int piece) {
    norm_->forward(add, normed_of(piece), statistics_.of_piece(*context_, piece));
    if (gathers_at_once_) start(piece);
}

void NormedTokens::start(int piece) {
    gather_.start(piece, normed_of(piece));
}

}  // namespace trireme
