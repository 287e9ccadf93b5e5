# Sourced by the scripts beside it: vLLM and the dependencies in $SITE, a model folder, the results in $OUT.
mkdir -p "$OUT"
export PYTHONPATH=$SITE:$PWD PATH=$PWD/benchmarks/h200/bin:$PATH PYTHONUNBUFFERED=1
export VLLM_USE_FLASHINFER_SAMPLER=0 HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1
export NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1
for shape in llama-8b qwen2.5-7b qwen3-30b-a3b; do python3 examples/h200/make_model.py $shape models/$shape; done

say() { echo "$(date +%T) $*" | tee -a "$OUT/progress.log"; }

# An engine's start is mostly Python reading vLLM's modules: compiled once, every start after it is half a minute sooner.
unset PYTHONDONTWRITEBYTECODE
[ -z "$SITE" ] || [ -e "$SITE/.compiled" ] || { python3 -m compileall -q -j 0 "$SITE" > /dev/null 2>&1; touch "$SITE/.compiled"; }
