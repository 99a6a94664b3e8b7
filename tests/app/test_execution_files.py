"""Base models of the control center on their way to a node."""

from tests.factories import Center, described, make_model


def test_a_model_of_the_control_center_reaches_a_node_in_pieces(center: Center) -> None:
    folder = make_model(center.app.state.base_models.roots[0] / "ours")
    (folder.parent.parent / "secret.json").write_text("{}")
    center.make_job(model="ours")
    claim = center.worker().must_claim()
    url = f"/api/worker/jobs/{claim.job_id}/model"
    files = {one["path"]: one for one in center.client.get(url, headers=claim.headers).json()["files"]}
    content = (folder / "config.json").read_bytes()
    assert files["config.json"] == {"path": "config.json", **described(content)} and len(files) == 5
    rest = center.client.get(f"{url}/config.json", headers=claim.headers | {"Range": "bytes=5-"})
    assert (rest.status_code, rest.content) == (206, content[5:])
    for name in ("..%2f..%2fsecret.json", "nothing.json", "weights.bin"):
        assert center.client.get(f"{url}/{name}", headers=claim.headers).status_code == 404
    assert center.client.get(url, headers=claim.headers | {"X-Attempt": "9"}).status_code == 409


def test_a_model_that_is_no_folder_here_is_not_offered(center: Center) -> None:
    for model in ("tiny-qwen3-vl", "Qwen/Qwen3-VL-8B-Instruct"):
        job = center.make_job(model=model)
        claim = center.worker(lane=f"lane-{job['id']}").must_claim()
        assert center.client.get(f"/api/worker/jobs/{claim.job_id}/model", headers=claim.headers).status_code == 404
