// For loops that vectors make faster: one body, compiled for AVX-512, for AVX2 and for any
// processor; the loader picks. Without contraction (-ffp-contract=off) all give the same bits.
// Sanitizers run before the resolvers do, so they get the plain body.
#pragma once

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    defined(__GNUC__) && !defined(__clang__)
#define FEDCTL_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FEDCTL_CLONES
#endif
#define FEDCTL_INLINE inline __attribute__((always_inline))
