"""Every setting of a run, its default and its meaning. The field docs are the help of `saga settings`.

A preset (``jobs/presets/*.toml``) or a user's TOML file gives values for some fields; ``--set a.b=c`` overrides them; unknown
keys fail. Where the SAGA paper (arXiv 2606.15134) leaves a choice open the field says so with "open in the paper".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0.0)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]  # FAISS takes no others
RewardDesign = Literal["verdict", "parsed", "confidence"]

ARM_NAMES = (
    "start",
    "metric",
    "saga",
    "grpo",
    "distillation",
    "verdict-ce",
    "random-gradient",
    "shuffled-labels",
    "equal-compute",
)


class Section(BaseModel):
    """Common behaviour: unknown keys fail, values are checked on assignment too."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class DataSettings(Section):
    """Which pictures, how they are split, and how micro-batches of pairs are made from them."""

    source: str = Field("furniture", description="name of a data set that ships or has a reader, or a path: a folder with one folder per class, or a CSV, Parquet or JSONL table")
    root: str | None = Field(None, description="folder of a public data set's official release, for sources that need one")
    image_size: Count = Field(112, description="pictures are resized to this many pixels square")
    test_share: Share = Field(0.5, description="share of classes held out for test where the data has no split column (class-disjoint, by `seed`)")
    validation_share: Share = Field(0.1, description="share of the remaining classes held out for validation where the data has no split column")
    max_broken_share: Share = Field(0.01, description="unreadable pictures are skipped, counted and listed; above this share the run stops")
    classes_per_batch: Count = Field(16, description="P: classes in a micro-batch")
    images_per_class: Annotated[int, Field(ge=2)] = Field(2, description="M: pictures of each of these classes")
    pairs_per_batch: Count = Field(16, description="candidate pairs of a micro-batch, half of one class and half of two")
    hard_negative_share: Share = Field(0.0, description="share of the different-class pairs drawn from classes that agree on `hard_negative_column`; the paper uses none")
    hard_negative_column: str | None = Field(None, description="attribute column that makes two classes hard to tell apart, for example `category`")
    blocks: Count = Field(2, description="a micro-batch's classes are dealt into this many blocks and no pair crosses two; the number of training workers must divide it, so that the plan does not depend on that number")
    crop_scale: Annotated[float, Field(gt=0.0, le=1.0)] = Field(0.7, description="augmentation: smallest share of the picture's area that a random crop keeps (1: no crop); open in the paper")
    flip: bool = Field(True, description="augmentation: mirror half of the pictures left to right; open in the paper")
    decode_tasks: Count = Field(1, description="Ray Data tasks that decode and augment at the same time, for each training worker")


class SupervisorSettings(Section):
    """The frozen multimodal language model that teaches."""

    path: str = Field("furniture-pocket", description="name of a supervisor that ships, or a folder that holds one")
    prompt: Literal["attributes", "generic"] = Field("attributes", description="`attributes`: role, attribute list and both descriptions (paper section 3); `generic`: differences and verdict only (the paper's ablation)")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="arithmetic of the language model in replay and rollouts")


class EncoderSettings(Section):
    """What is trained: the supervisor's own tower and a pooler over its tokens."""

    pooling: Literal["attention", "mean"] = Field("attention", description="`attention`: one learned query over the tokens; `mean`: their mean (an ablation)")
    embedding_size: Count | None = Field(None, description="E: width of the embedding; none: the tokens' own width")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="arithmetic of the tower's forward pass; weights stay float32")
    lora_rank: Count | None = Field(None, description="train low-rank adapters of this rank on the tower's linear maps in place of its weights (LoRA), which want a larger optimizer.tower_rate; none: the whole tower trains, as in the paper")
    lora_alpha: Count = Field(16, description="their scale is alpha / rank")


class RolloutSettings(Section):
    """How the supervisor's answers are sampled."""

    engine: str = Field("vllm", description="what generates completions, a file of saga_ray/rollout/engines; `transformers` is the slow reference for machines without vLLM")
    actors: Count = Field(1, description="rollout actors")
    cpus_per_actor: Annotated[float, Field(gt=0)] = Field(1.0, description="logical CPUs that Ray keeps for an actor")
    gpus_per_actor: Annotated[float, Field(ge=0)] = Field(0.0, description="GPUs that Ray keeps for an actor: a share of one, or `tensor_parallel` whole ones")
    tensor_parallel: Count = Field(1, description="GPUs to which an actor's vLLM shares out the language model's weights and cache, for models that do not fit one; all of one node. `gpus_per_actor` is the same number, or 0 for as many processes on CPU (vLLM's tensor parallelism; tested with two CPU processes, not run on GPUs)")
    threads_per_actor: Count = Field(1, description="arithmetic threads of an actor on CPU, or of each of its `tensor_parallel` processes")
    resources: dict[str, float] = Field(default_factory=dict, description="custom Ray resources that an actor asks for, to place it on chosen nodes")
    group_size: Annotated[int, Field(ge=2)] = Field(8, description="G: completions of a pair")
    temperature: Annotated[float, Field(gt=0)] = Field(0.7, description="sampling temperature (paper: 0.7)")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(0.95, description="nucleus sampling (paper: 0.95)")
    max_new_tokens: Count = Field(1024, description="a completion is cut here; truncated ones are counted (paper: 1024)")
    memory_share: Share = Field(0.85, description="share of a GPU's memory that vLLM may take, of each where there are several")
    kv_cache_gib: Annotated[float, Field(gt=0)] = Field(1.0, description="vLLM's key-value cache on CPU, in GiB")
    max_parallel_sequences: Count = Field(128, description="completions that an actor generates at the same time")
    group_timeout_s: Annotated[float, Field(gt=0)] = Field(120.0, description="a group that has not come back after this long is asked for again, at most `group_retries` times")
    group_retries: Annotated[int, Field(ge=0)] = Field(2, description="times that a lost group is asked for again before the run stops")
    start_timeout_s: Annotated[float, Field(gt=0)] = Field(600.0, description="longest wait for the actors to start")
    parity_pairs: Count = Field(8, description="pairs on which the engine's log-probabilities are compared with replay's before training")
    parity_tolerance: Annotated[float, Field(gt=0)] = Field(0.02, description="training is refused when the mean absolute difference of log-probabilities a token exceeds this, or when any token (in bfloat16: 1 % of them) differs by more than ten times that")


class GrpoSettings(Section):
    """Group-relative policy optimisation through the frozen supervisor (paper section 3.2)."""

    weight: Weight = Field(1.0, description="weight of the GRPO loss in the total; 0 switches rollouts off unless distillation needs them")
    informative_pairs: Count = Field(8, description="K: pairs with reward variance that a step needs (dynamic sampling)")
    max_micro_batches: Count = Field(4, description="a step stops refilling after this many micro-batches and goes on with what it has")
    reward: RewardDesign = Field("verdict", description="of a completion: `verdict`: 1 if it is right, else 0 (the paper's); `parsed`: 1/2 for a wrong one that can be read; `confidence`: the Brier score of the confidence that it states")
    advantage_std: Literal["population", "sample", "none"] = Field("population", description="which standard deviation divides the centred rewards; open in the paper")
    advantage_epsilon: Annotated[float, Field(ge=0)] = Field(1e-4, description="added to that deviation; open in the paper")
    policy_probability: Literal["raw", "tempered"] = Field("raw", description="replay's log p: the model's own (`raw`) or after dividing the logits by the temperature; open in the paper")
    replay: Literal["shared-prefix", "naive"] = Field("shared-prefix", description="compute a pair's prompt once for all its completions, or once for each (the reference)")
    objective: Literal["grpo", "verdict-ce", "random"] = Field("grpo", description="what comes from the supervisor: GRPO; cross entropy on the verdict alone; or random noise as large as GRPO's gradient (controls)")
    shuffle_targets: bool = Field(False, description="control: permute the same/different targets among the pairs of each micro-batch")


class DistillationSettings(Section):
    """The supervisor's attention teaches the pooler where to look (paper section 3.3)."""

    weight: Weight = Field(1.0, description="weight of the attention distillation loss in the total")
    layer: Annotated[int, Field(ge=0)] = Field(2, description="0-based layer of the language model whose attention teaches (paper: layer 26 of 36, base not stated)")
    reduction: Literal["mean", "sum"] = Field("mean", description="over the step's rewarded rollouts; open in the paper")


class MetricSettings(Section):
    """The metric-learning loss on the embeddings of every picture of every micro-batch (paper section 3.4)."""

    weight: Weight = Field(1.0, description="weight of the metric loss in the total")
    loss: str = Field("infonce", description="a file of saga_ray/losses/metric: potential_field, proxy_anchor, multi_similarity, infonce")
    options: dict[str, float | int] = Field(default_factory=dict, description="that loss's own options, see its file")


class OptimizerSettings(Section):
    """AdamW with a rate for each part, cosine with warm-up (paper section 4.1)."""

    tower_rate: Annotated[float, Field(ge=0)] = Field(2e-5, description="learning rate of the tower")
    pooler_rate: Annotated[float, Field(ge=0)] = Field(1e-4, description="learning rate of the pooler")
    proxy_rate: Annotated[float, Field(ge=0)] = Field(1e-2, description="learning rate of the metric loss's proxies; open in the paper")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="decoupled weight decay on matrices; open in the paper")
    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="AdamW; open in the paper")
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="AdamW; open in the paper")
    warmup_share: Share = Field(0.05, description="share of the steps with a linearly rising rate")
    clip: Annotated[float, Field(gt=0)] = Field(1.0, description="largest global gradient norm of tower and pooler")


class WorkerSettings(Section):
    """The Ray Train workers."""

    workers: Count = Field(1, description="Ray Train workers")
    gpus_per_worker: Annotated[float, Field(ge=0)] = Field(0.0, description="GPUs of a worker; 0 trains on CPU")
    cpus_per_worker: Annotated[float, Field(gt=0)] = Field(1.0, description="logical CPUs that Ray keeps for a worker")
    threads_per_worker: Count = Field(1, description="arithmetic threads of a worker on CPU")
    resources: dict[str, float] = Field(default_factory=dict, description="custom Ray resources that a worker asks for, to place it on chosen nodes")
    checkpoint_every: Count = Field(50, description="steps between checkpoints")
    collective_timeout_s: Annotated[float, Field(gt=0)] = Field(600.0, description="longest wait of workers for one another")
    max_failures: Annotated[int, Field(ge=0)] = Field(1, description="times that Ray Train restarts the workers from the last checkpoint")


class TrainSettings(WorkerSettings):
    """How many steps, on what."""

    steps: Count = Field(100, description="optimizer steps of every arm")
    workers: Count = Field(1, description="Ray Train workers; must divide data.blocks")
    tower_graph: Literal["hold", "recompute"] = Field("hold", description="keep a micro-batch's tower activations until the step's counts are known, or encode a second time with gradient (large towers)")
    replay_graph: Literal["hold", "recompute"] = Field("hold", description="keep the activations of the supervisor's layers for backward, or each layer's input alone, and compute it a second time (large language models, long answers)")
    replay_pairs: Count = Field(4, description="pairs replayed at the same time; bounds memory")
    shard: Literal["nothing", "tower", "language-model", "both"] = Field("nothing", description="what each worker holds a part of, for models that do not fit one GPU beside the rest: `tower`: its weights, gradients and optimizer state; `language-model`: the frozen one's layers, and replay then waits for all of a round's answers; `both`; the steps are those of `nothing` (FSDP2; tested on CPUs, not run on GPUs)")

    @property
    def shards_tower(self) -> bool:
        """Whether workers hold parts of the tower."""
        return self.shard in ("tower", "both")

    @property
    def shards_language_model(self) -> bool:
        """Whether workers hold parts of the frozen language model's layers."""
        return self.shard in ("language-model", "both")


class EmbeddingSettings(Section):
    """How many pictures are embedded at a time, by how many actors."""

    batch_size: Count = Field(64, description="pictures embedded at a time")
    workers: Count = Field(1, description="Ray Data actors that embed")


class EvaluationSettings(EmbeddingSettings):
    """Exact retrieval over the held-out classes: each picture queries all the others, or, where the data set has queries and a gallery (In-Shop), queries search the gallery. Scores of the validation classes during training are always the former."""

    part: Literal["test", "validation"] = Field("test", description="whose classes the arms are scored on: choose settings on `validation`, look at `test` last")
    verdict_pairs: Annotated[int, Field(ge=0)] = Field(64, description="fixed validation pairs on which the supervisor's verdict is scored during training; 0: none")
    verdict_every: Count = Field(25, description="steps between two such scores")
    validate_every: Annotated[int, Field(ge=0)] = Field(0, description="steps between two scores of retrieval over the validation classes during training; 0: none")


class TrackingSettings(Section):
    """MLflow."""

    uri: str | None = Field(None, description="MLflow tracking URI; none: an SQLite store under the output home, for one-node clusters only")
    experiment: str = Field("saga", description="MLflow experiment")
    system_metrics: bool = Field(True, description="log CPU, memory and GPU use of the driver's node")


class ReportSettings(Section):
    """The HTML page."""

    queries: Count = Field(8, description="queries shown that SAGA won, and as many that it lost, against the metric arm")
    neighbours: Count = Field(6, description="neighbours shown for a query")
    rollouts: Count = Field(8, description="groups shown with their pictures, answers and rewards")
    rollouts_every: Count = Field(10, description="steps between groups kept for the report")


class RaySettings(Section):
    """The cluster."""

    address: str | None = Field(None, description="Ray cluster to join; none: the one that submitted the job, else a local one")
    local_cpus: Count = Field(8, description="logical CPUs of a local cluster; more than the cores, since actors that wait take one each")
    wait_for_resources_s: Annotated[float, Field(gt=0)] = Field(300.0, description="longest wait for the cluster to have the CPUs and GPUs that the run asks for, and for them to be free")


class Settings(Section):
    """A run."""

    name: str = Field("run", description="name of the run, of its folder and of its MLflow run")
    seed: Seed = Field(1, description="seed of everything: plan, augmentation, proxies, completions")
    arms: list[str] = Field(default_factory=lambda: ["start", "metric", "saga"], min_length=1, description="what is trained and compared: " + ", ".join(ARM_NAMES))
    data: DataSettings = Field(default_factory=DataSettings)
    supervisor: SupervisorSettings = Field(default_factory=SupervisorSettings)
    encoder: EncoderSettings = Field(default_factory=EncoderSettings)
    rollout: RolloutSettings = Field(default_factory=RolloutSettings)
    grpo: GrpoSettings = Field(default_factory=GrpoSettings)
    distillation: DistillationSettings = Field(default_factory=DistillationSettings)
    metric: MetricSettings = Field(default_factory=MetricSettings)
    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings)
    train: TrainSettings = Field(default_factory=TrainSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    tracking: TrackingSettings = Field(default_factory=TrackingSettings)
    report: ReportSettings = Field(default_factory=ReportSettings)
    ray: RaySettings = Field(default_factory=RaySettings)

    @property
    def custom_resources(self) -> set[str]:
        """Names of the custom Ray resources that workers and rollout actors ask for."""
        return {*self.train.resources, *self.rollout.resources}

    @property
    def trained(self) -> dict[str, int]:
        """The arms that train, with their steps."""
        return {arm: self.train.steps for arm in self.arms if arm != "start"}

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        unknown = [arm for arm in self.arms if arm not in ARM_NAMES]
        if unknown:
            raise ValueError(f"arms: {unknown[0]!r} is not an arm; choose from {', '.join(ARM_NAMES)}")
        if len(set(self.arms)) != len(self.arms):
            raise ValueError("arms: an arm is named twice")
        if "equal-compute" in self.arms and "saga" not in self.arms:
            raise ValueError("arms: equal-compute takes as many seconds as saga did: add saga")
        if self.data.blocks % self.train.workers:
            raise ValueError(f"train.workers={self.train.workers} does not divide data.blocks={self.data.blocks}")
        rollout = self.rollout
        if rollout.gpus_per_actor > 0 and max(rollout.gpus_per_actor, rollout.tensor_parallel) > 1 and rollout.gpus_per_actor != rollout.tensor_parallel:
            raise ValueError(f"rollout.gpus_per_actor={rollout.gpus_per_actor:g}, but the language model of an actor runs on rollout.tensor_parallel={rollout.tensor_parallel} GPUs: set both to the same number")
        if self.train.shard != "nothing" and self.train.workers == 1:
            raise ValueError(f"train.shard={self.train.shard} shares weights out between workers, and train.workers is 1: set 2 or more, or train.shard=nothing")
        if self.train.shards_tower and self.encoder.lora_rank is not None:
            raise ValueError(f"train.shard={self.train.shard} shares out towers that train whole, and encoder.lora_rank is set: adapters take little memory, so set train.shard=language-model or nothing")
        if self.data.classes_per_batch % self.data.blocks:
            raise ValueError(f"data.blocks={self.data.blocks} does not divide data.classes_per_batch={self.data.classes_per_batch}")
        if self.data.classes_per_batch // self.data.blocks < 2:
            raise ValueError("data.classes_per_batch must give every block two classes at least, or no pair of different classes exists")
        if self.data.pairs_per_batch % (2 * self.data.blocks):
            raise ValueError(f"data.pairs_per_batch={self.data.pairs_per_batch} must be a multiple of 2 x data.blocks, half same and half different in every block")
        if self.grpo.informative_pairs > self.data.pairs_per_batch * self.grpo.max_micro_batches:
            raise ValueError("grpo.informative_pairs is more than data.pairs_per_batch x grpo.max_micro_batches can give")
        if self.distillation.weight > 0 and self.supervisor.prompt == "generic":
            raise ValueError("distillation.weight must be 0 with supervisor.prompt=generic: its answers describe neither picture")
        if self.distillation.weight > 0 and self.encoder.pooling == "mean":
            raise ValueError("distillation.weight must be 0 with encoder.pooling=mean: there is no attention to teach")
        if self.data.hard_negative_share > 0 and self.data.hard_negative_column is None:
            raise ValueError("data.hard_negative_share needs data.hard_negative_column, the attribute that makes two classes hard to tell apart")
        return self
