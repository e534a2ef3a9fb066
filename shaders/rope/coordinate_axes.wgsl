// An angle turns by the time of a token, or by its row or column in an image: `Place` and `Rope` in Rust say the same. The
// first AXIS_ROWS and AXIS_COLUMNS angles of these are interleaved with others, or (GRID) one half of them follows the other; tokens come in
// squares of SQUARE by SQUARE.
fn axis(i: u32) -> u32 {
    if (GRID) {
        return 1u + i / (PAIRS / 2u);
    }
    let third = i % 3u;
    let is_spatial = (third == 1u && i < 3u * AXIS_ROWS) || (third == 2u && i < 3u * AXIS_COLUMNS);
    return select(0u, third, is_spatial);
}

fn coordinate(row: u32, i: u32) -> u32 {
    var s = 0u;
    while (s + 1u < now.segments && row >= now.segment[s + 1u].first) {
        s++;
    }
    let pos = row_pos(row);
    let width = now.segment[s].width;
    if (width == 0u) {
        return pos - now.segment[s].behind;
    }
    let time = now.segment[s].start - now.segment[s].behind;
    let at = pos - now.segment[s].start;
    let tile = at / (SQUARE * SQUARE);
    let inside = at % (SQUARE * SQUARE);
    let across = width / SQUARE;
    let down = tile / across * SQUARE + inside / SQUARE;
    let along = tile % across * SQUARE + inside % SQUARE;
    let wanted = axis(i);
    return time + select(select(0u, along, wanted == 2u), down, wanted == 1u);
}
