// y has a row for each expert of each token (SUM: one for the sum of them); x has one per token (SHARED), or one for
// each.
const EXPERTS_SUMMED: u32 = select(1u, USED, SUM);
var<private> x_row: u32;
var<private> x_last: u32;
var<private> y_row: u32;
var<private> y_last: u32;
var<private> expert: u32;
fn choose_rows(z: u32) {
    y_row = z;
    y_last = z;
    x_row = select(z, z / USED, SHARED && !SUM);
    x_last = x_row;
}
fn choose_expert(z: u32, e: u32) -> f32 {
    let token = select(z / USED, z, SUM);
    let slot = select(z % USED, e, SUM);
    expert = min(u32(route[token * 2u * USED + slot]), EXPERTS - 1u);
    if (!SUM) {
        return 1.0;
    }
    x_row = select(z * USED + e, z, SHARED);
    x_last = x_row;
    return route[(token * 2u + 1u) * USED + slot];
}
// Of a sum, this part of the matrix adds the summands of its rows, and another part the rest.
fn counted(row: u32) -> bool { return !SUM || here(expert * Y_ROWS + min(row, Y_ROWS - 1u)); }
fn stored(segment: u32, row: u32) -> bool { return row < Y_ROWS && (SUM || here(expert * Y_ROWS + row)); }
