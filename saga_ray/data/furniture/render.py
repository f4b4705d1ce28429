"""Draw a mesh off screen with VTK, and say which material is seen at which pixel.

Works without a display: VTK falls back to EGL or OSMesa with Mesa's software renderer (on Debian: `apt
install libegl1 libgl1-mesa-dri`, or `libosmesa6`). Pictures are drawn four times too large, without the
driver's own smoothing, and averaged down, so that edges do not depend on the driver's multi-sampling.

Axes: x to the right, y up, z towards the one who looks at the front. Angles in degrees: azimuth 0 looks at
the front, 90 at the model's right side (from +x); elevation 90 looks straight down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  (registers the OpenGL back end)
from PIL import Image
from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkObject, vtkPoints
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkImageData, vtkPolyData
from vtkmodules.vtkFiltersCore import vtkPolyDataNormals, vtkTriangleFilter
from vtkmodules.vtkRenderingCore import (
    vtkActor,
    vtkLight,
    vtkPolyDataMapper,
    vtkRenderer,
    vtkRenderWindow,
    vtkTexture,
    vtkWindowToImageFilter,
)

from saga_ray.data.furniture.colours import BARE, TONE
from saga_ray.data.furniture.looks import Backdrop, MaterialSeen, Picture, Pixels, View
from saga_ray.data.furniture.mesh import Floats, Material, Mesh, Part

OVERSAMPLING = 4
CREASE = 40.0
"""Degrees between two faces from which on their common edge is drawn sharp, where the file has no normals."""
AMBIENT, DIFFUSE = 0.28, 0.7
HORIZON_SOFTNESS = 3.0
"""Pixels over which wall turns into floor."""
VIEW_DISTANCE = 4.0
"""Camera distance in units of the model's bounding radius: mild perspective."""


class Studio:
    """An off-screen window that shows one model at a time. Use one a process: OpenGL contexts are not
    shared.
    """

    def __init__(self, size: int = 112) -> None:
        vtkObject.GlobalWarningDisplayOff()
        self.size = size
        self._renderer = vtkRenderer()
        self._renderer.SetBackground(0.0, 0.0, 0.0)
        self._renderer.SetBackgroundAlpha(0.0)
        self._renderer.SetUseDepthPeeling(True)
        self._renderer.SetMaximumNumberOfPeels(8)
        self._renderer.SetOcclusionRatio(0.02)
        self._renderer.SetAutomaticLightCreation(False)
        self._head, self._key = vtkLight(), vtkLight()
        for light in (self._head, self._key):
            light.SetLightTypeToCameraLight()
            self._renderer.AddLight(light)
        self._window = vtkRenderWindow()
        self._window.SetOffScreenRendering(True)
        self._window.SetMultiSamples(0)
        self._window.SetAlphaBitPlanes(True)
        self._window.SetSize(size * OVERSAMPLING, size * OVERSAMPLING)
        self._window.AddRenderer(self._renderer)
        self._actors: list[vtkActor] = []
        self._materials: list[Material] = []
        self._points_V3: Floats = np.zeros((0, 3))

    def show(self, mesh: Mesh, size: tuple[float, float, float]) -> None:
        """Put a model on the stage, stretched to the catalogue's (width, height, depth) as its own program
        does.
        """
        for actor in self._actors:
            self._renderer.RemoveActor(actor)
            actor.ReleaseGraphicsResources(self._window)
        low_3, high_3 = mesh.points_V3.min(0), mesh.points_V3.max(0)
        extent_3 = high_3 - low_3
        scale_3 = np.where(extent_3 > 1e-9, np.array(size) / np.maximum(extent_3, 1e-9), 1.0)
        radius = float(np.linalg.norm(extent_3 * scale_3)) / 2
        centre_3 = (low_3 + high_3) / 2
        stretched = [(part, (part.points_V3 - centre_3) * scale_3 / radius) for part in mesh.parts]
        self._points_V3 = np.concatenate([points_V3 for _, points_V3 in stretched])
        self._actors = [_actor(part, points_V3, scale_3) for part, points_V3 in stretched]
        self._materials = [part.material for part in mesh.parts]
        for actor, material in zip(self._actors, self._materials, strict=True):
            self._renderer.AddActor(actor)
            dress(actor, material)

    def picture(self, view: View, lit: bool = True) -> Picture:
        """Take one picture; `lit=False` shows the bare colours of the materials, without light and shade."""
        self._aim(view)
        for actor in self._actors:
            actor.GetProperty().SetLighting(lit)
            actor.GetProperty().SetAmbient(AMBIENT if lit else 0.0)
            actor.GetProperty().SetDiffuse(DIFFUSE if lit else BARE)
        self._head.SetIntensity(0.55)
        self._head.SetPosition(0.0, 0.0, 1.0)
        azimuth, elevation = np.radians([view.key_azimuth, view.key_elevation])
        self._key.SetIntensity(view.key_strength)
        self._key.SetPosition(
            np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)
        )
        fine_HW4 = self._grab().astype(np.float64) / 255
        fine_HW4[..., :3] **= TONE
        side, n = self.size, OVERSAMPLING
        # Blending over black has weighted the window's colours by their coverage: so are these averages.
        small_HW4 = fine_HW4.reshape(side, n, side, n, 4).mean((1, 3))
        cover_HW1 = small_HW4[..., 3:]
        behind_HW3 = _behind(view.backdrop, side)
        rgb_HW3 = (small_HW4[..., :3] + (1 - cover_HW1) * behind_HW3) * np.array(view.tint)
        own_HW3 = small_HW4[..., :3] / np.maximum(cover_HW1, 1e-6)
        return Picture(_bytes(rgb_HW3), _bytes(np.concatenate([own_HW3, cover_HW1], axis=2)))

    def materials_seen(self, views: Sequence[View]) -> list[MaterialSeen]:
        """Each part's material with its share of the visible pixels of all views; transparent parts count
        as solid.
        """
        for index, (actor, material) in enumerate(zip(self._actors, self._materials, strict=True)):
            dress(actor, Material(material.name))
            look = actor.GetProperty()
            look.SetColor((index + 1) % 256 / 255, (index + 1) // 256 / 255, 0.0)
            look.SetAmbient(0.0)
            look.SetDiffuse(1.0)
            look.LightingOff()
        seen = np.zeros(len(self._actors))
        for view in views:
            self._aim(view)
            flat_HW4 = self._grab().astype(np.int64)
            numbers = (flat_HW4[..., 0] + 256 * flat_HW4[..., 1]).reshape(-1)
            seen += np.bincount(numbers, minlength=len(seen) + 1)[1 : len(seen) + 1]
        for actor, material in zip(self._actors, self._materials, strict=True):
            dress(actor, material)
        return [
            MaterialSeen(
                share=float(pixels / max(1.0, seen.sum())),
                textured=material.texture is not None,
                opacity=material.opacity,
                specular=float(np.mean(material.specular)),
                diffuse=material.diffuse,
            )
            for pixels, material in zip(seen, self._materials, strict=True)
        ]

    def repaint(self, index: int, colour: Sequence[float] | None) -> None:
        """Give part `index` another plain colour (0..1 RGB); None gives its own material back."""
        dress(self._actors[index], self._materials[index])
        if colour is not None:
            self._actors[index].GetProperty().SetColor(*colour)

    def _aim(self, view: View) -> None:
        azimuth, elevation = np.radians([view.azimuth, view.elevation])
        back_3 = np.array(
            [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
        )
        right_3 = np.array([np.cos(azimuth), 0.0, -np.sin(azimuth)])
        axes_33 = np.stack([right_3, np.cross(back_3, right_3), back_3])
        points_V3 = self._points_V3 @ axes_33.T
        focus_3 = np.zeros(3)
        for _ in range(
            3
        ):  # each round centres the outline better: perspective moves it when the camera moves
            moved_V3 = points_V3 - focus_3
            outline_V2 = moved_V3[:, :2] / (VIEW_DISTANCE - moved_V3[:, 2:])
            low_2, high_2 = outline_V2.min(0), outline_V2.max(0)
            focus_3[:2] += (low_2 + high_2) / 2 * VIEW_DISTANCE
        half = float((high_2 - low_2).max()) / 2
        camera = self._renderer.GetActiveCamera()
        camera.SetFocalPoint(*(focus_3 @ axes_33))
        camera.SetPosition(*((focus_3 + [0, 0, VIEW_DISTANCE]) @ axes_33))
        camera.SetViewUp(*axes_33[1])
        camera.SetViewAngle(float(np.degrees(2 * np.arctan(half / view.fill))))
        camera.SetWindowCenter(-2 * view.shift[0], -2 * view.shift[1])
        self._renderer.ResetCameraClippingRange()

    def _grab(self) -> Pixels:
        self._window.Render()
        grab = vtkWindowToImageFilter()
        grab.SetInput(self._window)
        grab.SetInputBufferTypeToRGBA()
        grab.ReadFrontBufferOff()
        grab.ShouldRerenderOff()
        grab.Update()
        image = grab.GetOutput()
        width, height, _ = image.GetDimensions()
        flat: Pixels = vtk_to_numpy(image.GetPointData().GetScalars())
        return flat.reshape(height, width, 4)[::-1]


def _behind(backdrop: Backdrop, side: int) -> Floats:
    """The backdrop as a picture, 0..1; the edge of the floor a little soft."""
    height_H11 = (np.arange(side)[:, None, None] + 0.5) / side
    floor_H11 = np.clip((height_H11 - backdrop.horizon) * side / HORIZON_SOFTNESS + 0.5, 0, 1)
    floor_H11 = floor_H11 if backdrop.horizon < 1 else np.zeros_like(floor_H11)
    wall_3, floor_3 = np.array(backdrop.wall) / 255, np.array(backdrop.floor) / 255
    return np.broadcast_to(wall_3 + floor_H11 * (floor_3 - wall_3), (side, side, 3))


def _bytes(x_HWC: Floats) -> Pixels:
    return np.round(np.clip(x_HWC, 0, 1) * 255).astype(np.uint8)


def _actor(part: Part, points_V3: Floats, scale_3: Floats) -> vtkActor:
    points = vtkPoints()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(points_V3), deep=True))
    cells = vtkCellArray()
    cells.SetData(
        numpy_to_vtkIdTypeArray(np.ascontiguousarray(part.starts_F1), deep=True),
        numpy_to_vtkIdTypeArray(np.ascontiguousarray(part.corners_K), deep=True),
    )
    shape = vtkPolyData()
    shape.SetPoints(points)
    shape.SetPolys(cells)
    if part.uv_V2 is not None:
        shape.GetPointData().SetTCoords(numpy_to_vtk(np.ascontiguousarray(part.uv_V2), deep=True))
    if part.normals_V3 is not None:
        normals_V3 = part.normals_V3 / scale_3  # stretching a surface turns its normals the other way
        normals_V3 = normals_V3 / np.maximum(np.linalg.norm(normals_V3, axis=1, keepdims=True), 1e-12)
        shape.GetPointData().SetNormals(numpy_to_vtk(np.ascontiguousarray(normals_V3), deep=True))
    triangles = vtkTriangleFilter()
    triangles.SetInputData(shape)
    mapper = vtkPolyDataMapper()
    if part.normals_V3 is None:
        normals = vtkPolyDataNormals()
        normals.SetInputConnection(triangles.GetOutputPort())
        normals.SetFeatureAngle(CREASE)
        normals.ConsistencyOff()
        mapper.SetInputConnection(normals.GetOutputPort())
    else:
        mapper.SetInputConnection(triangles.GetOutputPort())
    mapper.ScalarVisibilityOff()
    actor = vtkActor()
    actor.SetMapper(mapper)
    return actor


def dress(actor: vtkActor, material: Material) -> None:
    """Give an actor a material's look."""
    look = actor.GetProperty()
    look.LightingOn()
    look.SetColor(*_base_colour(material))
    look.SetAmbient(AMBIENT)
    look.SetDiffuse(DIFFUSE)
    strength = float(np.mean(np.clip(material.specular, 0, 1)))
    look.SetSpecular(0.35 * strength)
    look.SetSpecularPower(float(np.clip(material.shininess, 5, 60)))
    look.SetSpecularColor(1.0, 1.0, 1.0)
    look.SetOpacity(float(np.clip(material.opacity, 0, 1)))
    # VTK takes None for "no texture"; its type stubs do not know.
    actor.SetTexture(cast(vtkTexture, _texture(material.texture) if material.texture else None))


def _base_colour(material: Material) -> tuple[float, float, float]:
    """A texture keeps the tint of its material, not its brightness: exporters write black or grey beside a
    texture.
    """
    red, green, blue = (min(1.0, max(0.0, x)) for x in material.diffuse)
    if material.texture is None:
        return red, green, blue
    brightest = max(red, green, blue)
    return (1.0, 1.0, 1.0) if brightest < 0.05 else (red / brightest, green / brightest, blue / brightest)


def _texture(picture: Image.Image) -> vtkTexture:
    pixels_HWC = np.ascontiguousarray(np.asarray(picture)[::-1])
    height, width, channels = pixels_HWC.shape
    image = vtkImageData()
    image.SetDimensions(width, height, 1)
    image.GetPointData().SetScalars(numpy_to_vtk(pixels_HWC.reshape(-1, channels), deep=True))
    texture = vtkTexture()
    texture.SetInputData(image)
    texture.RepeatOn()
    texture.InterpolateOn()
    texture.MipmapOn()
    return texture
