// The row of the step that a row of logits is for: those are for the last tokens of each segment.
fn row_of_output(output: u32) -> u32 {
    var left = output;
    for (var s = 0u; s + 1u < now.segments; s++) {
        if (left < now.segment[s].outputs) {
            return now.segment[s].first + now.segment[s].tokens - now.segment[s].outputs + left;
        }
        left -= now.segment[s].outputs;
    }
    let last = now.segment[now.segments - 1u];
    return last.first + last.tokens - last.outputs + left;
}
