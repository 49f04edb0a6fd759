# irq_sim.c, outside the kernel: no irq_to_desc, nothing to export
s/handle_simple_irq(irq_to_desc(irqnum));/generic_handle_irq(irqnum);/
/^EXPORT_SYMBOL_GPL/d
# gpio-sim.c: with keep_level=1 a freed line stays as it was driven, as on a Raspberry Pi's kernel
/^static DEFINE_IDA(gpio_sim_ida);/a\
static bool keep_level;\
module_param(keep_level, bool, 0644);
/^static void gpio_sim_free(/,/^}/s/^\tmutex_lock(&chip->lock);/\tif (keep_level)\n\t\treturn;\n&/
