#pragma once

// What training puts into CheckpointState::extra, beside what loading needs. A key that is missing,
// as in checkpoints of earlier versions, means that nothing is known of it.
namespace trireme::checkpoint_keys {

inline constexpr const char* kTrainData = "train_data";        // the datasets' fingerprints
inline constexpr const char* kSampleOrder = "sample_order";    // SampleSource::order_text
inline constexpr const char* kDataProgress = "data_progress";  // DataProgress::text
inline constexpr const char* kResumes = "resumes";             // JSON: a record of each resume
// The step whose validation was due and was not done.
inline constexpr const char* kOwedValidation = "owed_validation";
// NumericsGuard: SpikeWindow::text of each, and the number of steps skipped one after the other.
inline constexpr const char* kLossWindow = "numerics.losses";
inline constexpr const char* kNormWindow = "numerics.gradient_norms";
inline constexpr const char* kSkippedSteps = "numerics.skipped_in_a_row";

}  // namespace trireme::checkpoint_keys
