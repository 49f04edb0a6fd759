/* What an external delegate sees of TensorFlow Lite: the fields up to the last that is used, as
 * tensorflow/lite/core/c/common.h of 2.14 (tflite-runtime) and LiteRT 2.3 lay them out. Written by hand:
 * neither package brings the header. Built with -nostdlib, so that gcc alone is needed. */
#include <stddef.h>
#include <stdint.h>

typedef struct { int size; int data[]; } TfLiteIntArray;

typedef struct {
  int type; /* 1: float32 */
  union { float *f; void *raw; } data;
  TfLiteIntArray *dims;
  char rest[112 - 24];
} TfLiteTensor;

typedef struct TfLiteNode {
  TfLiteIntArray *inputs, *outputs, *intermediates, *temporaries;
  void *user_data;
} TfLiteNode;

typedef struct TfLiteContext TfLiteContext;
typedef struct TfLiteRegistration {
  void *(*init)(TfLiteContext *, const char *, size_t);
  void (*free)(TfLiteContext *, void *);
  int (*prepare)(TfLiteContext *, TfLiteNode *);
  int (*invoke)(TfLiteContext *, TfLiteNode *);
  const char *(*profiling_string)(const TfLiteContext *, const TfLiteNode *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *registration_external;
  void *async_kernel;
  uint64_t inplace_operator;
} TfLiteRegistration;

typedef struct TfLiteDelegate {
  void *data;
  int (*Prepare)(TfLiteContext *, struct TfLiteDelegate *);
  int (*CopyFromBufferHandle)(void);
  int (*CopyToBufferHandle)(void);
  void (*FreeBufferHandle)(void);
  int64_t flags;
  void *opaque_delegate_builder;
} TfLiteDelegate;

struct TfLiteContext {
  size_t tensors_size;
  int (*GetExecutionPlan)(TfLiteContext *, TfLiteIntArray **);
  TfLiteTensor *tensors;
  void *impl;
  int (*ResizeTensor)(TfLiteContext *, TfLiteTensor *, TfLiteIntArray *);
  void (*ReportError)(TfLiteContext *, const char *, ...);
  int (*AddTensors)(TfLiteContext *, int, int *);
  int (*GetNodeAndRegistration)(TfLiteContext *, int, TfLiteNode **, TfLiteRegistration **);
  int (*ReplaceNodeSubsetsWithDelegateKernels)(
      TfLiteContext *, TfLiteRegistration, const TfLiteIntArray *, TfLiteDelegate *);
};

typedef struct {
  TfLiteDelegate *delegate;
  TfLiteIntArray *nodes_to_replace, *input_tensors, *output_tensors;
} TfLiteDelegateParams;
