//! The one table of tensor types: GGUF id, name, values per block, bytes per block.

macro_rules! dtypes {
    ($($variant:ident = $id:literal, $elems:literal, $bytes:literal;)*) => {
        /// The storage type of a tensor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(non_camel_case_types, missing_docs, reason = "the names of ggml")]
        #[non_exhaustive]
        pub enum DType { $($variant,)* }

        impl DType {
            /// All types, in the order of their numbers in a file.
            pub const ALL: &[DType] = &[$(DType::$variant,)*];

            /// The type with this number in a GGUF file, if it is one we know.
            pub fn from_gguf(id: u32) -> Option<Self> {
                match id { $($id => Some(DType::$variant),)* _ => None }
            }

            /// The number in a GGUF file.
            pub fn gguf_id(self) -> u32 {
                match self { $(DType::$variant => $id,)* }
            }

            /// The name as llama.cpp prints it, e.g. `Q4_K`.
            pub fn name(self) -> &'static str {
                match self { $(DType::$variant => stringify!($variant),)* }
            }

            /// Values in one block.
            pub fn block_elems(self) -> usize {
                match self { $(DType::$variant => $elems,)* }
            }

            /// Bytes of one block.
            pub fn block_bytes(self) -> usize {
                match self { $(DType::$variant => $bytes,)* }
            }
        }
    };
}

dtypes! {
    F32 = 0, 1, 4;
    F16 = 1, 1, 2;
    Q4_0 = 2, 32, 18;
    Q4_1 = 3, 32, 20;
    Q5_0 = 6, 32, 22;
    Q5_1 = 7, 32, 24;
    Q8_0 = 8, 32, 34;
    Q2_K = 10, 256, 84;
    Q3_K = 11, 256, 110;
    Q4_K = 12, 256, 144;
    Q5_K = 13, 256, 176;
    Q6_K = 14, 256, 210;
    IQ2_XXS = 16, 256, 66;
    IQ2_XS = 17, 256, 74;
    IQ3_XXS = 18, 256, 98;
    IQ1_S = 19, 256, 50;
    IQ4_NL = 20, 32, 18;
    IQ3_S = 21, 256, 110;
    IQ2_S = 22, 256, 82;
    IQ4_XS = 23, 256, 136;
    I8 = 24, 1, 1;
    I16 = 25, 1, 2;
    I32 = 26, 1, 4;
    I64 = 27, 1, 8;
    F64 = 28, 1, 8;
    IQ1_M = 29, 256, 56;
    BF16 = 30, 1, 2;
    TQ1_0 = 34, 256, 54;
    TQ2_0 = 35, 256, 66;
    MXFP4 = 39, 32, 17;
    NVFP4 = 40, 64, 36;
    Q1_0 = 41, 128, 18;
    Q2_0 = 42, 64, 18;
}

/// Numbers of types that no weight here can have: those that were removed, those of results on the way, and those that
/// one program gave to types of its own.
const OTHERS: &[(u32, &str)] = &[
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
    (142, "PQ2_0"),
    (143, "PTQ1_0"),
];

impl DType {
    /// The name of a number that [`from_gguf`](Self::from_gguf) does not take, where it has one.
    pub fn other_name(id: u32) -> Option<&'static str> {
        OTHERS.iter().find(|(n, _)| *n == id).map(|(_, name)| *name)
    }

    /// Bytes of a row of `cols` values, or `None` where the row is not a multiple of the block (or overflows).
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        cols.is_multiple_of(self.block_elems())
            .then(|| (cols / self.block_elems()).checked_mul(self.block_bytes()))
            .flatten()
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
