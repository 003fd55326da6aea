"""The page: well formed, alone, and nothing from outside in it unescaped."""

import base64
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from sempart_jax.report.page import STRIPS, encode_jpeg, example_strips, html_page

from . import hand_made

VOID = {"meta", "img", "link", "br", "hr", "input"}
ADDRESSES = {"src", "href", "xlink:href", "srcset", "data", "action", "poster"}


class Reader(html.parser.HTMLParser):
    """Collects tags, text and addresses; fails on what is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.images, self.text = [], [], [], [], ""
        self.ids = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        given = dict(attributes)
        assert len(given) == len(attributes)
        assert not any(name.startswith("on") for name in given)
        self.addresses += [value for name, value in attributes if name in ADDRESSES]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag == "img":
            self.images.append(given)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def page():
    examples = [hand_made.examples(), hand_made.examples("native", name="plain.jpg")]
    return html_page(hand_made.evaluation(), examples, {"jax": "1.2.3"})


def test_page_is_well_formed_and_fetches_nothing(page):
    reader = Reader(page)
    tags = {"html", "head", "body", "table", "img", "details", "dl", "nav"}
    assert tags <= set(reader.tags)
    assert not {"script", "link"} & set(reader.tags)
    assert len(set(reader.ids)) == len(reader.ids)
    assert page.startswith("<!DOCTYPE html>\n")
    for address in reader.addresses:
        assert address.startswith(("#", "data:image/jpeg;base64,", "data:image/svg+xml;base64,"))
    targets = [address[1:] for address in reader.addresses if address.startswith("#")]
    assert set(targets) <= set(reader.ids)
    styles = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    assert "url(" not in styles
    assert "@import" not in styles
    assert not re.findall(r"https?://", page)
    empty = hand_made.evaluation(facts={}, saliency=(), localization=(), seconds={}, left_out=())
    assert not {"table", "nav"} & set(Reader(html_page(empty, [], {"jax": "1"})).tags)


def test_names_from_outside_are_escaped(page):
    assert '<b>"a"' not in page
    assert "\udcff" not in page
    page.encode("utf-8")
    assert f"<h4>{hand_made.SHOWN} <small>object 25 % of the image</small></h4>" in page
    assert f'alt="as predicted: {hand_made.SHOWN}, IoU 0.123"' in page
    assert "<title>run &lt;1&gt;</title>" in page
    assert f"<li>{hand_made.SHOWN}: not readable</li>" in page
    evil = '"><script>x</script>'
    section = hand_made.saliency_section(dataset=evil, protocol=evil)
    parts = {"title": evil, "facts": {evil: evil}, "seconds": {evil: 1.0}, "left_out": (evil,)}
    evaluation = hand_made.evaluation(**parts, saliency=(section,))
    other = html_page(evaluation, [hand_made.examples(name=evil)], {evil: evil})
    assert "script" not in Reader(other).tags


def test_everything_found_is_on_the_page(page):
    text = Reader(page).text
    for shown in (
        "run <1>",
        "runs/a|b",
        "ECSSD, centre crop of 320 × 320 pixels (crop320), 3 of 1,000 images",
        "ECSSD, whole images at their own size (native), 3 images",
        "VOC07, whole images at their own size (native), 5,011 images",
        "Further scores",
        "Published numbers are left out",
        "plain.jpg",
        "jax 1.2.3",
        "total",
        "50%",
    ):
        assert shown in text
    assert page.count('<img src="data:image/svg+xml') == 6
    assert '0.946<span class="mark">†</span>' in page


def test_every_picture_has_words_for_who_cannot_see_it(page):
    charts = [image for image in Reader(page).images if "svg" in image["src"]]
    assert len({image["alt"] for image in charts}) == 6
    images = [image for image in Reader(page).images if "svg" not in image["src"]]
    assert len(images) == 2 * 2 * 4
    assert len({image["alt"] for image in images}) == 2 * 4
    for image in images:
        assert (image["width"], image["height"]) == ("6", "8")
        data = base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,"))
        assert Image.open(io.BytesIO(data)).size == (6, 8)


def test_numbers_carry_their_heads_to_narrow_screens(page):
    tables = [table for table in page.split("<table")[1:] if table.startswith(' class="scores"')]
    assert len(tables) == 2 + 2 + 1 + 1 + 1
    for table in tables:
        heads = re.findall(r'<th scope="col" class="number">([^<]*)</th>', table)
        rows = table.split("<tbody>")[1].split("</tr>")[:-1]
        assert heads
        for row in rows:
            assert re.findall(r'<td class="number" data-head="([^"]*)">', row) == heads


def test_examples_stand_with_their_own_section_alone():
    for other in ({"dataset": "duts_te"}, {"protocol": "native"}):
        evaluation = hand_made.evaluation(saliency=(hand_made.saliency_section(**other),))
        assert "image/jpeg" not in html_page(evaluation, [hand_made.examples()], {"jax": "1"})


def test_strips_show_twelve_of_either_end_and_the_iou_beside_each_mask():
    shown = example_strips(hand_made.examples(count=STRIPS + 3))
    assert STRIPS == 12
    assert shown.count('<section class="strip">') == 2 * 12
    assert "The 12 best by IoU, guided filter" in shown
    assert "The 12 worst by IoU, guided filter" in shown
    first = shown.split("</section>")[0]
    assert re.findall(r"<figcaption>(.*?)</figcaption>", first) == [
        "image",
        "ground truth",
        "as predicted <b>IoU 0.123</b>",
        "guided filter <b>IoU –</b>",
    ]
    assert example_strips(hand_made.examples(count=0)) == ""


def test_pictures_are_encoded_small_in_their_own_grey():
    for value, dtype, grey in (
        (0.5, np.float32, 128),
        (1.4, np.float64, 255),
        (-0.4, np.float32, 0),
        (1, bool, 255),
    ):
        image = Image.open(io.BytesIO(encode_jpeg(np.full((300, 448), value, dtype))))
        assert (image.format, image.mode, image.size) == ("JPEG", "L", (224, 150))
        assert image.getpixel((100, 70)) == pytest.approx(grey, abs=1)
    image = Image.open(io.BytesIO(encode_jpeg(np.full((300, 448, 3), 90, np.uint8))))
    np.testing.assert_allclose(image.getpixel((100, 70)), 90, atol=1)
