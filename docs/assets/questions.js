// The questions of the live page: which command each is, and the options it offers. No number is computed here.
const NONE = ["", "as it is"];
const SIZES = {
  "-b": { label: "Batch", kind: "text", value: "1", size: 4 },
  "-s": { label: "Tokens a sequence", kind: "text", value: "2048", size: 7 },
};
const STORED = { label: "Weights stored as", kind: "choice", of: [NONE, "int8", "nf4", "fp8", "awq", "gptq-4bit-g128"] };
const METHODS = { label: "Method", kind: "choice", of: [["", "full"], "lora", "dora", "qlora"] };
const RANK = { label: "Rank", kind: "text", value: "16", size: 4 };

// base: the words that make the question; fields: option -> how it is asked for; gpu: whether one is asked for
export const QUESTIONS = {
  run: {
    title: "Does it run?", base: "memory", gpu: true,
    fields: { ...SIZES, "--quantization": STORED },
  },
  tune: {
    title: "Fine-tune", base: "memory --mode training", gpu: true,
    fields: {
      "--method": { ...METHODS, value: "lora" }, "-r": RANK, ...SIZES,
      "--recipe": { label: "Software", kind: "choice",
        of: [["", "transformers' Trainer"], ["sft", "TRL SFT"], ["dpo", "TRL DPO"], ["torch-mixed", "own loop, autocast"],
          ["torch-bf16", "own loop, bf16"], ["deepspeed", "DeepSpeed"], ["all", "compare them"]] },
      "--checkpointing": { label: "Checkpointing", kind: "choice", of: [["", "none"], "selective", "full"] },
      "--optimizer": { label: "Optimizer", kind: "choice", of: [["", "as the software"], "adamw", "adamw8bit", "adafactor", "lion", "muon", "sgd"] },
      "--gpus": { label: "GPUs", kind: "text", value: "", size: 4 },
      "--stage": { label: "ZeRO / FSDP", kind: "choice", of: [["", "none"], "1", "2", "3"] },
    },
  },
  cache: {
    title: "KV cache", base: "kvcache", gpu: true,
    fields: { ...SIZES, "--kv-dtype": { label: "Cache as", kind: "choice", of: [["", "as the model"], "fp8", "int8", "int4"] } },
  },
  adapter: {
    title: "Adapter", base: "peft", gpu: false,
    fields: {
      "--method": { label: "Method", kind: "choice", of: "methods", value: "lora" },
      "--rank": { ...RANK, value: "8" },
      "--targets": { label: "Modules", kind: "choice", of: [["", "the library's"], "all-linear", "q_proj,v_proj", "q_proj,k_proj,v_proj,o_proj"] },
    },
  },
  zero: {
    title: "ZeRO", base: "zero", gpu: false,
    fields: {
      "--gpus": { label: "GPUs", kind: "text", value: "64", size: 5 },
      "--stage": { label: "Stage", kind: "choice", of: [["", "all"], "0", "1", "2", "3"] },
      "--tensor-parallel": { label: "Tensor parallel", kind: "text", value: "", size: 4 },
    },
  },
  serve: {
    title: "Serve", base: "kvcache", gpu: true,
    fields: {
      "--engine": { label: "Engine", kind: "choice", value: "vllm", of: ["vllm", "sglang", "tensorrt-llm"] },
      "--max-model-len": { label: "Longest sequence", kind: "text", value: "8k", size: 6 },
      "--tensor-parallel": { label: "Tensor parallel", kind: "text", value: "", size: 4 },
    },
  },
  speed: {
    title: "How fast?", base: "infer", gpu: true,
    fields: { ...SIZES, "--new-tokens": { label: "New tokens", kind: "text", value: "256", size: 6 } },
  },
};

// The command line of a form's values: { question, model, gpu, "-b": "4", ... }.
export function line(values) {
  const q = QUESTIONS[values.question];
  const [command, ...rest] = q.base.split(" ");
  const words = ["llmcalc", command, values.model, ...rest];
  if (q.gpu && values.gpu) words.push("--gpu", values.gpu);
  for (const option of Object.keys(q.fields)) if (values[option]) words.push(option, values[option]);
  return words.map((w) => (/^[\w@%+=:,./-]+$/.test(w) ? w : `'${w.replace(/'/g, `'\\''`)}'`)).join(" ");
}

// The form's values of a command line, or null where no question of the page is that command line.
export function values(text) {
  const words = text.trim().split(/\s+/);
  if (words[0] === "llmcalc") words.shift();
  if (words.length < 2 || words[1].startsWith("-")) return null;
  for (const [question, q] of Object.entries(QUESTIONS)) {
    const [command, ...rest] = q.base.split(" ");
    const found = { question, model: words[1] };
    const left = words.slice(2);
    if (words[0] !== command || !rest.every((w) => left.includes(w))) continue;
    if (question === "run" && left.includes("--mode")) continue;
    for (const w of rest) left.splice(left.indexOf(w), 1);
    let whole = left.length % 2 === 0;
    for (let i = 0; i < left.length; i += 2) {
      if (left[i] === "--gpu" && q.gpu) found.gpu = left[i + 1];
      else if (left[i] in q.fields) found[left[i]] = left[i + 1];
      else whole = false;
    }
    if (whole && (question !== "cache" || !left.includes("--engine"))) return found;
  }
  return null;
}
