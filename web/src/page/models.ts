/** Models that are tested with each release. They are not hosted here: serve the files from anywhere. */
export const models = {
  "smollm2-135m": {
    name: "SmolLM2 135M Instruct",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    license: "Apache-2.0",
  },
} as const;
