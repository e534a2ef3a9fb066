// Scores without a soft cap.
fn capped(score: f32) -> f32 { return score; }
