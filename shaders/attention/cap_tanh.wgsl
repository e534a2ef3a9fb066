// Scores with a soft cap.
fn capped(score: f32) -> f32 { return CAP * sum_v(tanh_v(V(score / CAP))) / f32(VW); }
