// A run of the table, and the product of two runs by value.
fn table_run(i: u32) -> Run {
    return Run(
        table[i], table[i + 1u], table[i + 2u], table[i + 3u], table[i + 4u], table[i + 5u], table[i + 6u], table[i + 7u]);
}
