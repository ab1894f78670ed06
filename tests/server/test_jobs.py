#!/usr/bin/env python3
"""Jobs from outside: submitted, followed, interrupted, refused, found again. test_jobs.py [CLASS]"""
import json
import os
import shutil
import sqlite3
import tempfile
import time
import unittest
import urllib.parse

from serve_case import SOURCE, ServeCase, Server, colour, painting


def jpeg_width(data):
    at = 2
    while not 0xC0 <= data[at + 1] <= 0xC2:  # to the frame's header
        at += 2 + int.from_bytes(data[at + 2:at + 4], "big")
    return int.from_bytes(data[at + 7:at + 9], "big")


LONG = 2000  # steps: nobody waits for their end


def occupy(server):
    """Submits a job that goes on until somebody interrupts it; returns when it runs."""
    job = server.submit(painting(1, steps=LONG), client_id="occupier")
    while not any(item[1] == job for item in server.get("/queue")["queue_running"]):
        time.sleep(0.01)
    return job


class Run(ServeCase):
    options = ("--preview-seconds", "0.001")

    def test_events_come_in_comfyuis_order(self):
        socket = self.socket("order")
        job = self.server.submit(painting(11, steps=3), client_id="order")
        socket.wait_end(job)
        kinds = [t for t, d in socket.events if d.get("prompt_id") == job]
        self.assertEqual(kinds[:4], ["execution_start", "execution_cached", "progress_state", "executing"])
        self.assertEqual(kinds[-2:], ["execution_success", "executing"])
        values = [(d["value"], d["max"], d["node"]) for d in socket.of("progress", job)]
        self.assertEqual(values, [(1, 3, "5"), (2, 3, "5"), (3, 3, "5")])
        self.assertEqual([d["node"] for d in socket.of("executing", job)][-1], None)
        self.assertTrue({"5", "6", "7"} <= {d["node"] for d in socket.of("executing", job)})
        executed, = socket.of("executed", job)
        self.assertEqual((executed["node"], executed["display_node"]), ("7", "7"))
        last = socket.of("progress_state", job)[-1]["nodes"]
        self.assertEqual({node["state"] for node in last.values()}, {"finished"})
        self.assertEqual((last["5"]["value"], last["5"]["max"]), (3, 3))
        self.assertEqual(socket.of("status")[-1], {"status": {"exec_info": {"queue_remaining": 0}}})

    def test_history_is_there_on_success_and_its_files_too(self):
        socket = self.socket("history")
        job = self.server.submit(colour(1), client_id="history", extra_data={"extra_pnginfo": {"workflow": {"id": "w"}}})
        socket.wait_for(lambda t, d: t == "execution_success" and d["prompt_id"] == job)
        entry = self.server.get("/history/" + job)[job]
        self.assertEqual(entry["status"]["status_str"], "success")
        self.assertIs(entry["status"]["completed"], True)
        self.assertEqual([name for name, _ in entry["status"]["messages"]],
                         ["execution_start", "execution_cached", "execution_success"])
        number, prompt_id, prompt, extra, targets = entry["prompt"]
        self.assertEqual((prompt_id, prompt, targets), (job, colour(1), ["2"]))
        self.assertEqual(extra["client_id"], "history")
        self.assertGreater(extra["create_time"], 1500000000000)
        self.assertEqual(entry["meta"], {"2": {"node_id": "2", "display_node": "2", "parent_node": None,
                                               "real_node_id": "2"}})
        item, = entry["outputs"]["2"]["images"]
        self.assertEqual((item["subfolder"], item["type"]), ("", "output"))
        with open(self.path_of(item), "rb") as file:
            self.assertIn(b"workflow", file.read())
        self.assertEqual(self.server.get("/history?max_items=1").keys(), {list(self.server.get("/history"))[-1]})

    def test_a_client_without_id_is_told_by_the_shared_events_only(self):
        socket = self.socket("bystander")
        job = self.server.submit(painting(12))
        self.server.wait_for(job)
        socket.wait_for(lambda t, d: t == "progress" and d["prompt_id"] == job and d["value"] == 2)
        self.server.submit(colour(5), client_id="bystander")
        socket.wait_for(lambda t, d: t == "execution_success")
        self.assertEqual({t for t, d in socket.events if d.get("prompt_id") == job}, {"progress", "progress_state"})

    def test_another_client_hears_nothing_of_it(self):
        other, own = self.socket("other"), self.socket("own")
        job = self.server.submit(painting(13), client_id="own")
        own.wait_end(job)
        self.assertEqual([t for t, d in other.events if d.get("prompt_id") == job], [])

    def test_a_client_that_comes_back_hears_of_the_node_in_hand_and_of_its_end(self):
        job = self.server.submit(painting(19, steps=LONG), client_id="back")
        first = self.socket("back")
        first.wait_for(lambda t, d: t == "progress" and d["prompt_id"] == job)
        back = self.socket("back")
        back.wait_for(lambda t, d: t == "executing" and d["node"] == "5" and d["prompt_id"] == job)
        self.server.post("/interrupt", {"prompt_id": job})
        back.wait_end(job)
        late = self.socket("back")
        late.wait_for(lambda t, d: t == "status")
        time.sleep(0.1)
        self.assertEqual([d for t, d in late.events if t == "executing"], [])

    def test_saving_stays_in_the_output_folder_and_can_be_viewed(self):
        away, link = os.path.join(self.folder, "away"), os.path.join(self.folder, "output", "link")
        os.mkdir(away)
        os.symlink(away, link)
        for i, prefix in enumerate(("link/p", "../p", "a/../../p", "/tmp/p", ".p", "a/.b/p", "a//p", "p/", "p\n", "a\\p")):
            with self.subTest(prefix=prefix):
                entry = self.server.wait_for(self.server.submit(colour(60 + i, prefix)))
                self.assertEqual((entry["status"]["status_str"], entry["outputs"]), ("error", {}))
        self.assertEqual(os.listdir(away), [])
        entry = self.server.wait_for(self.server.submit(colour(80, "\u00e9t\u00e9/a b/\u65e5 %26#?")))
        item, = self.outputs(entry)
        status, data = self.server.request("GET", "/view?" + urllib.parse.urlencode(item))
        self.assertEqual((status, data[:4]), (200, b"\x89PNG"))

    def test_an_equal_second_run_is_cached_and_shows_its_output(self):
        socket = self.socket("again")
        first = self.server.submit(painting(14), client_id="again")
        second = self.server.submit(painting(14), client_id="again")
        socket.wait_end(second)
        cached, = socket.of("execution_cached", second)
        self.assertTrue({"1", "2", "3", "4", "5", "6"} <= set(cached["nodes"]), cached)
        self.assertEqual(socket.of("progress", second), [])
        outputs = [self.outputs(self.server.wait_for(job)) for job in (first, second)]
        for item in outputs[0] + outputs[1]:
            self.assertTrue(os.path.exists(self.path_of(item)), item)
        self.assertEqual(len(outputs[1]), 1)
        self.assertEqual(len(socket.of("executed", second)), 1)

    def test_previews_have_metadata_for_those_who_want_it(self):
        plain = self.socket("plain")
        rich = self.socket("rich", {"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        rich.wait_for(lambda t, d: t == "feature_flags")
        plain.wait_end(self.server.submit(painting(15, steps=60), client_id="plain"))
        job = self.server.submit(painting(16, steps=60), client_id="rich")
        rich.wait_end(job)
        self.assertEqual(plain.binary[0][:8], b"\0\0\0\1\0\0\0\1")
        self.assertEqual(plain.binary[0][8:10], b"\xff\xd8")
        self.assertEqual(rich.binary[0][:4], b"\0\0\0\4")
        size = int.from_bytes(rich.binary[0][4:8], "big")
        metadata = json.loads(rich.binary[0][8:8 + size])
        self.assertEqual((metadata["prompt_id"], metadata["node_id"], metadata["image_type"]), (job, "5", "image/jpeg"))
        self.assertEqual(rich.binary[0][8 + size:10 + size], b"\xff\xd8")

    def test_large_seeds_and_own_ids_come_back(self):
        prompt = painting(18446744073709551615)
        job = self.server.submit(prompt, prompt_id="my-own-id")
        self.assertEqual(job, "my-own-id")
        entry = self.server.wait_for(job)
        self.assertEqual(entry["status"]["status_str"], "success")
        self.assertEqual(entry["prompt"][2], prompt)
        status, data = self.server.request("POST", "/prompt", {"prompt": colour(1), "prompt_id": "my-own-id"})
        self.assertEqual((status, json.loads(data)["error"]["type"]), (400, "prompt_id_exists"))

    def test_a_name_in_extra_data_cannot_spoil_the_lists(self):
        """Marked as the parser marks long integers: it must stay a name, or nobody can read /queue and /history."""
        extra = {"\u0001#1234567890123456789": 1}
        job = self.server.submit(colour(2), extra_data=extra)
        entry = self.server.wait_for(job)
        self.assertEqual(entry["status"]["status_str"], "success")
        self.assertEqual(entry["prompt"][3]["\u0001#1234567890123456789"], 1)
        self.assertIn(job, self.server.get("/history"))

    def test_jobs_are_listed(self):
        job = self.server.submit(colour(7), extra_data={"extra_pnginfo": {"workflow": {"id": "listed"}}})
        self.server.wait_for(job)
        found = self.server.get("/api/jobs?workflow_id=listed")
        one, = found["jobs"]
        self.assertEqual((one["id"], one["status"], one["outputs_count"]), (job, "completed", 1))
        self.assertEqual(one["preview_output"]["nodeId"], "2")
        self.assertGreaterEqual(one["execution_end_time"], one["execution_start_time"])
        self.assertEqual(found["pagination"], {"offset": 0, "limit": None, "total": 1, "has_more": False})
        self.assertEqual(self.server.get("/api/jobs?status=pending,in_progress")["jobs"], [])
        self.assertEqual(self.server.get("/api/jobs/" + job)["workflow"]["prompt"], colour(7))
        self.assertEqual(self.server.request("GET", "/api/jobs/nobody"), (404, b'{"error":"Job not found"}'))
        for query in ("status=done", "sort_by=size", "sort_order=up", "limit=0", "limit=x", "offset=x"):
            self.assertEqual(self.server.request("GET", "/api/jobs?" + query)[0], 400, query)

    def test_free_forgets_results(self):
        first = self.server.submit(painting(17))
        self.server.wait_for(first)
        self.server.post("/free", {"unload_models": True, "free_memory": True})
        second = self.server.submit(painting(17))
        messages = dict(self.server.wait_for(second)["status"]["messages"])
        self.assertEqual(messages["execution_cached"]["nodes"], [])


class Previews(ServeCase):
    """How previews are made: by the server's option, and by what a job says. TAESD's are as large as the picture."""

    @classmethod
    def setUpClass(cls):
        models = tempfile.mkdtemp(prefix="tessera-models-")
        cls.addClassCleanup(shutil.rmtree, models)
        os.mkdir(os.path.join(models, "checkpoints"))
        os.symlink(os.path.join(SOURCE, "models", "tessera-demo.safetensors"),
                   os.path.join(models, "checkpoints", "tessera-demo.safetensors"))
        os.symlink(os.path.join(SOURCE, "tests", "golden", "data", "taesd"), os.path.join(models, "vae_approx"))
        cls.options = ("--models", models, "--preview-seconds", "0.001", "--preview-method", "latent2rgb")
        super().setUpClass()

    def widths(self, seed, **extra):
        """Of the previews of one job."""
        socket = self.socket(f"client{seed}")
        socket.wait_end(self.server.submit(painting(seed, steps=30), client_id=f"client{seed}", extra_data=extra))
        return {jpeg_width(frame[8:]) for frame in socket.binary}

    def test_methods(self):
        picture = painting(1)["4"]["inputs"]["width"]
        self.assertEqual(self.widths(31), {picture // 8})
        self.assertEqual(self.widths(32, preview_method="default"), {picture // 8})
        self.assertEqual(self.widths(33, preview_method="taesd"), {picture})
        self.assertEqual(self.widths(34, preview_method="auto"), {picture})
        self.assertEqual(self.widths(35, preview_method="none"), set())

    def test_choices_and_options(self):
        names = self.server.get("/object_info/VAELoader")["VAELoader"]["input"]["required"]["vae_name"][0]
        self.assertIn("taesd", names)
        self.assertNotIn("taesdxl", names)


class Faults(ServeCase):
    def refused(self, body, kind):
        status, data = self.server.request("POST", "/prompt", body)
        answer = json.loads(data)
        self.assertEqual((status, answer["error"]["type"]), (400, kind), data)
        self.assertEqual(set(answer["error"]), {"type", "message", "details", "extra_info"})
        return answer

    def test_what_is_no_prompt(self):
        self.refused({}, "no_prompt")
        self.refused({"prompt": [1]}, "no_prompt")
        self.refused({"prompt": {}}, "prompt_no_outputs")
        self.refused({"prompt": {"1": {"inputs": {}}}}, "invalid_prompt")
        answer = self.refused({"prompt": {"1": {"class_type": "Nonsense", "inputs": {}}}}, "invalid_prompt")
        self.assertIn("Node ID '#1'", answer["error"]["details"])
        self.refused({"prompt": {"1": 5}}, "invalid_prompt")
        self.assertEqual(self.server.request("POST", "/prompt", b"{")[0], 400)

    def test_every_faulty_node_is_named(self):
        prompt = painting(1)
        prompt["5"]["inputs"]["steps"] = 0
        prompt["5"]["inputs"]["sampler_name"] = "nobody"
        del prompt["4"]["inputs"]["width"]
        answer = self.refused({"prompt": prompt}, "prompt_outputs_failed_validation")
        kinds = {node: {fault["type"] for fault in entry["errors"]} for node, entry in answer["node_errors"].items()}
        self.assertEqual(kinds, {"4": {"required_input_missing"}, "5": {"value_smaller_than_min", "value_not_in_list"}})
        self.assertEqual(answer["node_errors"]["5"]["dependent_outputs"], ["7"])

    def test_good_outputs_run_beside_faulty_ones(self):
        prompt = colour(3)
        prompt["9"] = {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}
        answer = self.server.post("/prompt", {"prompt": prompt})
        self.assertEqual(list(answer["node_errors"]), ["9"])
        entry = self.server.wait_for(answer["prompt_id"])
        self.assertEqual((list(entry["outputs"]), entry["prompt"][4]), (["2"], ["2"]))

    def test_partial_targets(self):
        prompt = colour(4)
        prompt["3"] = {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "other"}}
        job = self.server.submit(prompt, partial_execution_targets=["3"])
        self.assertEqual(list(self.server.wait_for(job)["outputs"]), ["3"])
        self.refused({"prompt": prompt, "partial_execution_targets": ["77"]}, "prompt_no_outputs")

    def test_an_error_is_told_and_kept(self):
        picture = os.path.join(self.folder, "input", "gone.png")
        self.server.wait_for(self.server.submit(colour(9, "source")))
        source = next(name for name in os.listdir(os.path.join(self.folder, "output")) if name.startswith("source"))
        with open(os.path.join(self.folder, "output", source), "rb") as file, open(picture, "wb") as copy:
            copy.write(file.read())
        blocker = occupy(self.server)
        socket = self.socket("unlucky")
        prompt = {"1": {"class_type": "LoadImage", "inputs": {"image": "gone.png"}},
                  "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "never"}}}
        job = self.server.submit(prompt, client_id="unlucky")
        with open(picture, "wb") as file:
            file.write(b"\x89PNG\r\n\x1a\nbroken")
        self.server.post("/interrupt", {"prompt_id": blocker})
        socket.wait_end(job)
        error, = socket.of("execution_error", job)
        self.assertEqual((error["node_id"], error["node_type"], error["executed"]), ("1", "LoadImage", []))
        self.assertTrue(error["exception_message"])
        self.assertTrue(error["exception_type"])
        self.assertEqual(error["current_inputs"], {"image": ["gone.png"]})
        self.assertIsInstance(error["traceback"], list)
        entry = self.server.wait_for(job)
        self.assertEqual((entry["status"]["status_str"], entry["status"]["completed"]), ("error", False))
        self.assertEqual(entry["status"]["messages"][-1][0], "execution_error")
        self.assertEqual(self.server.get("/api/jobs/" + job)["execution_error"]["node_id"], "1")
        self.server.wait_for(self.server.submit(colour(10)))  # the queue goes on


class Queue(ServeCase):
    options = ("--max-queue", "4")

    def setUp(self):
        self.blocker = occupy(self.server)

    def tearDown(self):
        self.server.post("/queue", {"clear": True})
        self.server.post("/interrupt")
        self.server.wait_for(self.blocker)

    def pending(self):
        return [item[1] for item in sorted(self.server.get("/queue")["queue_pending"])]

    def test_front_and_numbers(self):
        a = self.server.submit(colour(1))
        b = self.server.submit(colour(2), front=True)
        c = self.server.submit(colour(3), number=-1e6)
        self.assertEqual(self.pending(), [c, b, a])
        answer = self.server.post("/prompt", {"prompt": colour(4), "number": 2.5})
        self.assertEqual(answer["number"], 2.5)
        self.assertEqual(self.server.get("/prompt"), {"exec_info": {"queue_remaining": 5}})

    def test_full(self):
        for i in range(4):
            self.server.submit(colour(i))
        status, data = self.server.request("POST", "/prompt", {"prompt": colour(9)})
        error = json.loads(data)["error"]
        self.assertEqual((status, error["type"], error["message"]), (429, "queue_full", "the queue is full: 4 jobs wait"))

    def test_cancel(self):
        socket = self.socket("watcher")
        a, b, c = (self.server.submit(colour(i)) for i in range(3))
        self.server.post("/queue", {"delete": [b, "nobody", self.blocker]})
        self.assertEqual(self.pending(), [a, c])
        self.assertEqual(self.server.get("/queue")["queue_running"][0][1], self.blocker)
        socket.wait_for(lambda t, d: t == "status" and d["status"]["exec_info"]["queue_remaining"] == 3)
        self.server.post("/queue", {"clear": True})
        self.assertEqual(self.pending(), [])
        self.assertEqual(self.server.get("/history/" + b), {})

    def test_interrupt_names_its_job(self):
        socket = self.socket("occupier")
        waiting = self.server.submit(colour(1), client_id="occupier")
        self.server.post("/interrupt", {"prompt_id": waiting})  # does not run
        self.server.post("/interrupt", {"prompt_id": "nobody"})
        time.sleep(0.2)
        self.assertEqual(self.server.get("/queue")["queue_running"][0][1], self.blocker)
        self.server.post("/interrupt", {"prompt_id": self.blocker})
        socket.wait_end(self.blocker)
        told, = socket.of("execution_interrupted", self.blocker)
        self.assertEqual((told["node_id"], told["node_type"]), ("5", "KSampler"))
        entry = self.server.wait_for(self.blocker)
        self.assertEqual((entry["status"]["status_str"], entry["status"]["completed"]), ("error", False))
        self.assertEqual(entry["status"]["messages"][-1][0], "execution_interrupted")
        self.assertEqual(self.server.wait_for(waiting)["status"]["status_str"], "success")

    def test_an_interrupt_is_never_lost(self):
        self.server.post("/interrupt")
        self.server.wait_for(self.blocker)
        for _ in range(10):  # as soon as the queue says that it runs
            self.blocker = self.server.submit(painting(1, steps=LONG))
            while not self.server.get("/queue")["queue_running"]:
                pass
            self.server.post("/interrupt")
            self.assertEqual(self.server.wait_for(self.blocker)["status"]["messages"][-1][0], "execution_interrupted")

    def test_history_is_deleted(self):
        self.server.post("/interrupt")
        first, second = self.server.submit(colour(1)), self.server.submit(colour(2))
        self.server.wait_for(second)
        self.server.post("/history", {"delete": [first]})
        self.assertEqual(self.server.get("/history/" + first), {})
        self.assertIn(second, self.server.get("/history"))
        self.server.wait_for(self.blocker)
        self.blocker = occupy(self.server)
        self.server.post("/history", {"clear": True})
        self.assertEqual(self.server.get("/history"), {})
        self.assertEqual(self.server.get("/queue")["queue_running"][0][1], self.blocker)


class Restart(ServeCase):
    def test_a_stopped_server_goes_on_where_it_was(self):
        done = self.server.submit(colour(1))
        before = self.server.wait_for(done)
        running = occupy(self.server)
        waiting = self.server.submit(colour(2), extra_data={"api_key_comfy_org": "secret"})
        self.assertEqual(self.server.stop(), 0)
        type(self).server = Server(self.folder)
        while not self.server.get("/queue")["queue_running"]:
            time.sleep(0.01)
        queue = self.server.get("/queue")
        self.assertEqual(([item[1] for item in queue["queue_running"]], [item[1] for item in queue["queue_pending"]]),
                         ([running], [waiting]))
        self.assertNotIn("api_key_comfy_org", queue["queue_pending"][0][3])
        self.assertEqual(self.server.get("/history/" + done)[done], before)
        self.server.post("/interrupt")
        self.server.wait_for(waiting)
        self.assertEqual(list(self.server.get("/history"))[-2:], [running, waiting])

    def test_a_second_server_is_refused(self):
        with self.assertRaisesRegex(RuntimeError, "another server uses the jobs of"):
            Server(self.folder)

    def test_another_program_may_read_along(self):
        job = self.server.submit(colour(3))
        self.server.wait_for(job)
        database = sqlite3.connect(os.path.join(self.folder, "data", "jobs.sqlite"))
        self.addCleanup(database.close)
        self.assertEqual(database.execute("SELECT state, attempt FROM jobs WHERE id = ?", (job,)).fetchall(),
                         [("success", 1)])

    def test_a_held_database_is_a_clear_error_and_no_more(self):
        database = sqlite3.connect(os.path.join(self.folder, "data", "jobs.sqlite"), isolation_level=None)
        self.addCleanup(database.close)
        database.execute("BEGIN IMMEDIATE")
        status, data = self.server.request("POST", "/prompt", {"prompt": colour(4)})
        self.assertEqual((status, json.loads(data)["error"]["type"]), (503, "store_failed"))
        self.assertIn("busy", json.loads(data)["error"]["message"])
        self.server.get("/queue")
        self.server.get("/history")
        database.execute("ROLLBACK")
        self.server.wait_for(self.server.submit(colour(5)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
