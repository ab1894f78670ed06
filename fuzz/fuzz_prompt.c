/* fuzz_prompt.c - prompt syntax and tokenizer: any bytes give whole chunks of valid tokens, or one of three refusals. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/prompt_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static tsr__tokenizer *tokenizer; /* made once: it is immutable, and building it would dominate each run */
    tsr__token_chunks chunks;
    tsr_error err = TSR_ERROR_INIT;
    if (!tokenizer && tsr__tokenizer_new(&tokenizer, NULL) != TSR_OK) abort();
    char *prompt = malloc(size + 1);
    if (!prompt) return 0;
    if (size) memcpy(prompt, data, size);
    prompt[size] = 0;
    const tsr_status status = tsr__tokenize(tokenizer, &chunks, prompt, 0, &err);
    if (status == TSR_OK) {
        if (chunks.chunks < 1) abort();
        for (int i = 0; i < chunks.chunks * TSR__CHUNK; i++) {
            if (chunks.ids[i] < 0 || chunks.ids[i] > 49407 || !isfinite(chunks.weights[i])) abort();
            if (i % TSR__CHUNK == 0 && chunks.ids[i] != 49406) abort();
        }
        tsr__token_chunks_clear(&chunks);
    } else if (status != TSR_TOO_LARGE && status != TSR_UNSUPPORTED && status != TSR_NO_MEMORY) {
        abort();
    }
    free(prompt);
    return 0;
}
