"""Programs that say that they generated a file, in their own words; and words of others that look alike."""

import json
import time

import pytest

from vision.provenance.generators import LONGEST, Text, generator_of

A1111 = "a cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Version: {}"
COMFY = {"3": {"class_type": "KSampler", "inputs": {"seed": 5}}}
NODES = {"last_node_id": 9, "nodes": [{"type": "KSampler"}], "links": []}
JOB = "a fox --ar 3:2 --v 6 Job ID: 12345678-1234-1234-1234-123456789abc"


@pytest.mark.parametrize(
    ("name", "value", "program"),
    [
        ("parameters", A1111.format("v1.10.1"), "Stable Diffusion WebUI"),
        ("UserComment", A1111.format("v1.6.0"), "Stable Diffusion WebUI"),
        ("comment", A1111.format("f2.0.1v1.10.1"), "Stable Diffusion WebUI Forge"),
        ("parameters", A1111.format("Fooocus v2.5.5"), "Fooocus"),
        ("parameters", A1111.format("ComfyUI"), "ComfyUI"),
        ("parameters", "Steps: 30, Schedule type: Karras, Sampler: DPM", "Stable Diffusion WebUI"),
        ("prompt", json.dumps(COMFY), "ComfyUI"),
        ("workflow", json.dumps(NODES), "ComfyUI"),
        ("Make", "workflow:" + json.dumps(NODES), "ComfyUI"),
        ("Model", "prompt:" + json.dumps(COMFY), "ComfyUI"),
        ("comment", json.dumps({"prompt": json.dumps(COMFY), "workflow": NODES}), "ComfyUI"),
        ("parameters", json.dumps({"sui_image_params": {"model": "x"}}), "SwarmUI"),
        ("invokeai_metadata", "{}", "InvokeAI"),
        ("Dream", '"a cat" -s 50 -S 12345 -W512', "InvokeAI"),
        ("Software", "NovelAI", "NovelAI"),
        ("Source", "Stable Diffusion XL B0BDE17A", "Stable Diffusion"),
        ("fooocus_scheme", "fooocus", "Fooocus"),
        ("use_stable_diffusion_model", "sd-v1-5", "Easy Diffusion"),
        ("generation_data", '{"models":[],"baseModel":"SDXL"}', "Tensor.Art"),
        ("Description", JOB, "Midjourney"),
        ("comment", "made with suno; created=2026-01-01T00:00:00Z; id=5", "Suno"),
        ("Credit", "Made with Google AI", "Google AI"),
        ("UserComment", json.dumps({"c": "a cat", "sampler": "Euler", "steps": 8, "seed": 5}), "a diffusion program"),
        ("CreatorTool", "Adobe Firefly 3", "Adobe Firefly"),
        ("AISystemUsed", "DALL-E via Bing Image Creator", "DALL-E"),
        ("software", "Midjourney", "Midjourney"),
        ("encoder", "ElevenLabs", "ElevenLabs"),
        ("AIGC", '{"Label":"1","ContentProducer":"x"}', "a program that labels it as AIGC (GB 45438-2025)"),
    ],
)
def test_a_generator_is_known_by_its_own_words(name: str, value: str, program: str) -> None:
    generator = generator_of([Text("nowhere", "Title", "a cat"), Text("here", name, value)])
    assert generator is not None
    assert (generator.name, generator.place, generator.partly) == (program, "here", False)


def test_a_part_that_was_edited() -> None:
    generator = generator_of([Text("here", "Credit", "Edited with Google AI")])
    assert generator is not None
    assert generator.partly


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Software", "Adobe Photoshop 25.0 (Windows)"),
        ("Software", "GIMP 2.10.36"),
        ("Software", "HDR+ 1.0.4"),
        ("encoder", "Lavf62.3.100"),
        ("comment", "my talk on Midjourney and Stable Diffusion"),
        ("Description", "How to sample a prompt: steps: first, then"),
        ("Description", "Job ID: 12345678-1234-1234-1234-123456789abc"),
        ("prompt", "what do you see?"),
        ("workflow", "print at A4"),
        ("parameters", "F=2.8, t=1/60"),
        ("Title", "Suno dolls made with love"),
        ("comment", '{"steps": 5000, "device": "watch"}'),
        ("AIGC", '{"Label":"2"}'),
        ("Artist", "Runway Photographers"),
        ("Make", "Canon"),
    ],
)
def test_words_of_others_say_nothing(name: str, value: str) -> None:
    assert generator_of([Text("here", name, value)]) is None


@pytest.mark.parametrize(
    "part",
    ["Steps: 1, ", "-s 1 ", '"prompt":', "{", "Job ID: ", "--v ", '"sampler":', "workflow:{", "made with ", " ", "\\"],
)
def test_long_texts_take_linear_time(part: str) -> None:
    started = time.process_time()
    for name in ("parameters", "Dream", "comment", "prompt", "Source", "software", "AIGC"):
        generator_of([Text("here", name, part * (LONGEST // len(part))), Text("here", name, "{" + part * LONGEST)])
    assert time.process_time() - started < 2  # of ten times what it takes
