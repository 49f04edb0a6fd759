/* A delegate that takes every float PRELU off the runtime, computes it itself and counts.
 * Options: refuse=WHY (create says so and returns NULL), prepare=fail, answer=wrong, invoke=die; anything is kept for
 * `option_seen`. Each kernel gets one node: ReplaceNodeSubsets is asked for one at a time. */
#include "delegate.h"

extern void *malloc(size_t);
extern void free(void *);
extern int strcmp(const char *, const char *);
extern char *strncpy(char *, const char *, size_t);

enum { FLOAT32 = 1, PRELU = 54, MAX_NODES = 512 };

int claimed, invoked, destroyed;
int failing; /* a test sets it: from then on no node can be computed */
char option_seen[256];
static int fail_prepare, answer_wrong, die;

typedef struct { int input, slope, output; } Kernel;

static void *init(TfLiteContext *context, const char *buffer, size_t length) {
  const TfLiteDelegateParams *params = (const TfLiteDelegateParams *)buffer;
  TfLiteNode *node;
  TfLiteRegistration *registration;
  Kernel *kernel = malloc(sizeof *kernel);
  (void)length;
  context->GetNodeAndRegistration(context, params->nodes_to_replace->data[0], &node, &registration);
  kernel->input = node->inputs->data[0];
  kernel->slope = node->inputs->data[1];
  kernel->output = node->outputs->data[0];
  return kernel;
}

static void release(TfLiteContext *context, void *kernel) { (void)context; free(kernel); }

static int prepare(TfLiteContext *context, TfLiteNode *node) { (void)context; (void)node; return 0; }

static size_t elements(const TfLiteTensor *tensor) {
  size_t count = 1;
  for (int i = 0; i < tensor->dims->size; i++) count *= tensor->dims->data[i];
  return count;
}

static int invoke(TfLiteContext *context, TfLiteNode *node) {
  const Kernel *kernel = node->user_data;
  const TfLiteTensor *in = &context->tensors[kernel->input], *slope = &context->tensors[kernel->slope];
  float *out = context->tensors[kernel->output].data.f;
  const size_t count = elements(in), channels = elements(slope);
  if (failing) return 1;
  if (die) __builtin_trap();
  for (size_t i = 0; i < count; i++) {
    const float x = in->data.f[i];
    out[i] = x >= 0 ? x : x * slope->data.f[i % channels];
    if (answer_wrong) out[i] = -out[i];
  }
  invoked++;
  return 0;
}

static int take(TfLiteContext *context, TfLiteDelegate *delegate) {
  const TfLiteRegistration kernel = {.init = init, .free = release, .prepare = prepare, .invoke = invoke,
                                     .custom_name = "CountingPrelu", .version = 1};
  static int mine[MAX_NODES];
  int count = 0;
  TfLiteIntArray *plan;
  TfLiteNode *node;
  TfLiteRegistration *registration;
  TfLiteIntArray *one;
  if (fail_prepare || context->GetExecutionPlan(context, &plan)) return 1;
  for (int i = 0; i < plan->size && count < MAX_NODES; i++) {
    if (context->GetNodeAndRegistration(context, plan->data[i], &node, &registration)) return 1;
    if (registration->builtin_code == PRELU && context->tensors[node->inputs->data[0]].type == FLOAT32)
      mine[count++] = plan->data[i];
  }
  one = malloc(sizeof *one + sizeof(int));
  one->size = 1;
  for (int i = 0; i < count; i++) {
    one->data[0] = mine[i];
    if (context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel, one, delegate)) return 1;
    claimed++;
  }
  free(one);
  return 0;
}

TfLiteDelegate *tflite_plugin_create_delegate(
    char **keys, char **values, size_t count, void (*report)(const char *)) {
  TfLiteDelegate *delegate;
  fail_prepare = answer_wrong = die = 0;
  for (size_t i = 0; i < count; i++) {
    strncpy(option_seen, values[i], sizeof option_seen - 1);
    if (!strcmp(keys[i], "refuse")) { report(values[i]); return NULL; }
    fail_prepare |= !strcmp(keys[i], "prepare") && !strcmp(values[i], "fail");
    die |= !strcmp(keys[i], "invoke") && !strcmp(values[i], "die");
    answer_wrong |= !strcmp(keys[i], "answer") && !strcmp(values[i], "wrong");
  }
  delegate = malloc(sizeof *delegate);
  *delegate = (TfLiteDelegate){.Prepare = take};
  return delegate;
}

void tflite_plugin_destroy_delegate(TfLiteDelegate *delegate) { /* NULL after a refusal */
  destroyed += delegate != NULL;
  free(delegate);
}
