"""Fields of configs that change neither a shape nor a count."""

from __future__ import annotations

COMMON = (
    *("model_type", "architectures", "auto_map", "torch_dtype", "dtype", "transformers_version", "tokenizer_class", "use_cache"),
    *("is_decoder", "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "decoder_start_token_id"),
    *("image_token_id", "bos_token", "eos_token", "pad_token", "image_token_index", "boi_token_index", "eoi_token_index"),
    *("tokenizer_name", "model_max_length", "initializer_range", "initializer_factor", "init_std", "gradient_checkpointing"),
    *("max_length", "min_length", "pretraining_tp", "attention_dropout", "hidden_dropout", "embd_pdrop", "attn_pdrop", "resid_pdrop"),
    *("residual_dropout", "embedding_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attn_dropout"),
    *("resid_dropout", "ffn_dropout", "classifier_dropout", "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon"),
    *("norm_eps", "norm_epsilon", "rms_norm_epsilon", "rope_theta", "rope_scaling", "rope_parameters", "rope_local_base_freq"),
    *("rope_interleave", "rope_interleaved", "rope_ratio", "rotary_emb_base", "rotary_base", "original_max_position_embeddings"),
    *("default_theta", "rope_type", "output_attentions", "output_hidden_states", "return_dict", "torchscript", "use_bfloat16"),
    *("pruned_heads", "output_router_logits", "id2label", "label2id", "num_labels", "problem_type", "finetuning_task"),
    *("task_specific_params", "prefix", "chunk_size_feed_forward", "temperature", "top_k", "top_p", "typical_p", "do_sample"),
    *("num_beams", "num_beam_groups", "diversity_penalty", "early_stopping", "repetition_penalty", "length_penalty"),
    *("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "begin_suppress_tokens", "forced_bos_token_id"),
    *("forced_eos_token_id", "suppress_tokens", "exponential_decay_length_penalty", "remove_invalid_values", "num_return_sequences"),
    *("output_scores", "return_dict_in_generate", "tf_legacy_loss", "tie_encoder_decoder", "cache_implementation", "attn_implementation"),
    *("bias_dropout_fusion", "masked_softmax_fusion", "slow_but_exact", "offset_alibi", "seq_length", "n_ctx", "summary_activation"),
    *("summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj", "router_aux_loss_coef"),
    *("router_jitter_noise", "router_z_loss_coef", "input_jitter_noise", "aux_loss_alpha", "seq_aux", "norm_topk_prob", "scoring_func"),
    *("topk_method", "n_group", "topk_group", "routed_scaling_factor", "ep_size"),
)
"""Fields of every family's configs that leave FLOPs and bytes alone."""
